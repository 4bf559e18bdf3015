"""Messages from enqueue to outcome."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from pg_queue.domain import Capability, Claim, Death, Message, NewMessage, Progress, Settled, Settlement, Success
from pg_queue.settings import QueueSettings, StoreSettings, direct_alias
from pg_queue.sql import statements
from pg_queue.storage.capable import Capable
from pg_queue.storage.failures import unreadable
from pg_queue.storage.operations import DatabaseOperations
from pg_queue.storage.postgres.barriers import PostgresBarriers
from pg_queue.storage.postgres.connection import StoreConnection
from pg_queue.storage.postgres.ends import Ends
from pg_queue.storage.postgres.enqueueing import Enqueueing
from pg_queue.storage.postgres.limits import PostgresLimits
from pg_queue.storage.postgres.listener import PostgresListener
from pg_queue.storage.postgres.locks import PostgresLocks
from pg_queue.storage.postgres.outbox import PostgresOutbox
from pg_queue.storage.postgres.switches import PostgresSwitches
from pg_queue.storage.postgres.turns import Turns
from pg_queue.storage.rows import (
    UNREADABLE,
    Depth,
    Row,
    claim_key,
    decode_claim,
    decode_shown,
    encode_outcomes,
    encode_reports,
    readable,
)
from pg_queue.storage.workers import DatabaseWorkers

Pair = tuple[uuid.UUID, uuid.UUID]


class PostgresStore(Capable):
    """Implements `pg_queue.ports.QueueStore`.

    A lease that has run out still holds until `expire_claims` takes the message back: a worker that comes late, and
    before anyone else got the message, may still settle or renew it.
    """

    capabilities = frozenset(
        {
            Capability.TRANSACTIONS,
            Capability.SET_ENQUEUE,
            Capability.NAMESPACES,
            Capability.KEYS,
            Capability.CANCEL,
            Capability.CONTINUATIONS,
            Capability.BARRIERS,
            Capability.EVENTS,
            Capability.FAIRNESS,
            Capability.SWITCHES,
            Capability.LOCKS,
            Capability.LIMITS,
            Capability.WAKE,
            Capability.OPERATIONS,
        }
    )

    def __init__(self, conf: QueueSettings, place: StoreSettings, *, connection: StoreConnection | None = None) -> None:
        """`connection`: for who has a session of its own; its transactions are then the caller's. None: Django's."""
        super().__init__(place)
        self.database = place.database
        self._connection = connection or StoreConnection(place.database)
        self._fetch, self._count = self._connection.fetch, self._connection.count
        self.workers = DatabaseWorkers(place.database, self.namespace)
        self._conf, self._place = conf, place
        self._within: dict[str, PostgresStore] = {self.namespace: self}
        self._enqueueing = Enqueueing(self._connection, conf, self.namespace)
        self._turns = Turns(conf)
        self._messages = statements("messages")
        self._outcomes = statements("outcomes")
        self._switches = PostgresSwitches(self._connection, self.namespace)
        self._outbox = PostgresOutbox(self._connection, self.namespace)
        self._barriers = PostgresBarriers(self._connection, self.namespace, self._enqueueing)
        self._locks = PostgresLocks(self._connection, self.namespace)
        self._limits = PostgresLimits(self._connection, self.namespace)
        self._ends = Ends(
            self._connection,
            conf,
            self.namespace,
            barriers=self._barriers,
            outbox=self._outbox,
            enqueue=lambda namespace, messages: self.within(namespace).enqueue(messages),
        )

    @property
    def barriers(self) -> PostgresBarriers:
        """See the port."""
        return self._barriers

    @property
    def operations(self) -> DatabaseOperations:
        """See the port."""
        return DatabaseOperations(self._place.database, self.namespace, self._ends.cancel)

    @property
    def limits(self) -> PostgresLimits:
        """See the port."""
        return self._limits

    @property
    def locks(self) -> PostgresLocks:
        """See the port."""
        return self._locks

    @property
    def switches(self) -> PostgresSwitches:
        """See the port."""
        return self._switches

    @property
    def outbox(self) -> PostgresOutbox:
        """See the port."""
        return self._outbox

    def enqueue(self, messages: Sequence[NewMessage]) -> list[uuid.UUID]:
        """See the port."""
        self._check_demands(messages)
        return self._enqueueing.enqueue(messages)

    def within(self, namespace: str) -> PostgresStore:
        """See the port."""
        if namespace not in self._within:
            found = PostgresStore(self._conf, self._place.within(namespace), connection=self._connection)
            found._within = self._within
            self._within[namespace] = found
        return self._within[namespace]

    def listen(self, queues: Sequence[str]) -> PostgresListener:
        """See the port. On a session of its own: of the queue's direct alias, where the store is in its database."""
        alias = direct_alias() if self.database == self._conf.database else self._place.database
        return PostgresListener(alias, self.namespace, queues)

    def claim(self, *, queues: Sequence[str], limit: int, lease: timedelta, worker: str) -> list[Claim]:
        """See the port."""
        parameters = {
            "namespace": self.namespace,
            "queues": list(queues),
            "limit": limit,
            "lease": lease.total_seconds(),
            "worker": worker,
            **self._turns.parameters(),
        }
        rows = self._fetch(self._messages["claim"], parameters)
        try:
            claims = [decode_claim(row) for row in rows]
        except UNREADABLE:
            claims = self._readable_claims(rows)
        self._turns.note(claims)
        return claims

    def renew(self, claims: Sequence[Pair], *, lease: timedelta) -> set[uuid.UUID]:
        """See the port."""
        return self._touch(self._messages["renew"], claims, lease=lease.total_seconds())

    def release(self, claims: Sequence[Pair]) -> set[uuid.UUID]:
        """See the port."""
        return self._touch(self._messages["release"], claims)

    def note_progress(self, reports: Sequence[tuple[uuid.UUID, uuid.UUID, Progress]]) -> set[uuid.UUID]:
        """See the port."""
        rows = self._fetch(self._messages["note_progress"], {"reports": encode_reports(reports)}) if reports else []
        return {row[0] for row in rows}

    def settle(self, settlements: Sequence[Settlement]) -> dict[uuid.UUID, Settled]:
        """See the port. Successes from which nothing follows are one statement; what is left is a transaction.

        Two statements, where some of them are kept and others are not.
        """
        answers = {settlement.token: Settled.LOST for settlement in settlements}
        if all(isinstance(s.outcome, Success) and not s.events for s in settlements):
            answers |= dict.fromkeys(self._ends.forget(settlements), Settled.DONE)
            answers |= dict.fromkeys(self._succeed([s for s in settlements if not s.is_traceless]), Settled.DONE)
        left = [settlement for settlement in settlements if answers[settlement.token] is Settled.LOST]
        return answers | self._ends.settle(left) if left else answers

    def expire_claims(self, *, limit: int) -> int:
        """See the port."""
        return self._ends.expire(limit=limit)

    def overdue_seconds(self) -> float:
        """See the port."""
        ((seconds,),) = self._fetch(self._messages["overdue"], {})
        return float(seconds or 0)

    def cancel(self, message_ids: Sequence[uuid.UUID], *, reason: str = "") -> set[uuid.UUID]:
        """See the port."""
        return self._ends.cancel(message_ids, reason=reason)

    def get(self, message_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Message]:
        """See the port. What an outcome does not keep is empty: its args and kwargs."""
        parameters = {"namespace": self.namespace, "ids": list(message_ids)}
        rows = self._fetch(self._outcomes["get"], parameters)
        return {message.id: message for message in readable(rows, decode_shown)}

    def take_outcomes(self, report_to: str, *, limit: int, hold: timedelta = timedelta(0)) -> list[Message]:
        """See the port. The transaction holds them."""
        parameters = {"namespace": self.namespace, "report_to": report_to, "limit": limit}
        rows = self._fetch(self._outcomes["take_outcomes"], parameters)
        return list(readable(rows))

    def confirm_outcomes(self, report_to: str, outcomes: Sequence[Message]) -> None:
        """See the port: the transaction has."""

    def retain(self, *, limit: int) -> int:
        """See the port."""
        gone = self._count(self._outcomes["retain_results"], {"limit": limit})
        gone += self._count(self._outcomes["retain_keys"], {"limit": limit})
        gone += self._locks.retain(limit=limit)
        gone += self._count(statements("broker")["sweep"], {"limit": limit})
        if ttl := self._conf.result_ttl_seconds:
            gone += self._barriers.retain(ttl_seconds=ttl, limit=limit)
        if ttl := self._conf.dead_letter_ttl_seconds:
            gone += self._count(self._outcomes["retain_dead_letters"], {"limit": limit, "ttl": ttl})
        return gone

    def replay(self, message_ids: Sequence[uuid.UUID], *, keep_attempts: bool = False) -> set[uuid.UUID]:
        """See the port. Joins the caller's transaction."""
        parameters = {
            "namespace": self.namespace,
            "ids": list(message_ids),
            "key_ttl": self._conf.key_ttl_seconds,
            "keep_attempts": keep_attempts,
        }
        return {row[0] for row in self._fetch(self._outcomes["replay"], parameters)}

    def depths(self) -> list[Depth]:
        """See the port."""
        return [
            Depth(queue=row[0], waiting=row[1], delayed=row[2], running=row[3], dead=row[4], oldest_due_seconds=row[5])
            for row in self._fetch(self._messages["depths"], {"namespace": self.namespace})
        ]

    def next_due_seconds(self, queues: Sequence[str]) -> float | None:
        """See the port."""
        parameters = {"namespace": self.namespace, "queues": list(queues)}
        ((seconds,),) = self._fetch(self._messages["next_due"], parameters)
        return None if seconds is None else max(0.0, float(seconds))

    def _readable_claims(self, rows: Sequence[Row]) -> list[Claim]:
        """The claims among `rows`; what cannot be read, because no `enqueue` has written it, is buried."""
        claims, deaths = [], []
        for row in rows:
            try:
                claims.append(decode_claim(row))
            except UNREADABLE as error:
                message_id, token = claim_key(row)
                deaths.append(Settlement(message_id=message_id, token=token, outcome=Death(failure=unreadable(error))))
        self.settle(deaths)
        return claims

    def _succeed(self, settlements: Sequence[Settlement]) -> list[uuid.UUID]:
        """The tokens of those that are settled: they held, and nothing follows from the message's end."""
        if not settlements:
            return []
        outcomes = encode_outcomes(
            (s, s.outcome.value, self._ttl_seconds(s.outcome.ttl))
            for s in settlements
            if isinstance(s.outcome, Success)
        )
        return [row[0] for row in self._fetch(self._outcomes["succeed"], {"outcomes": outcomes})]

    def _ttl_seconds(self, ttl: timedelta | None) -> float:
        return self._conf.result_ttl_seconds if ttl is None else ttl.total_seconds()

    def _touch(self, statement: str, claims: Sequence[Pair], **parameters: Any) -> set[uuid.UUID]:
        if not claims:
            return set()
        ids, tokens = zip(*claims, strict=True)
        return {row[0] for row in self._fetch(statement, {"ids": list(ids), "tokens": list(tokens), **parameters})}
