"""Messages from enqueue to outcome."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction

from pg_queue.domain import Capability, Claim, Death, Failure, Message, NewMessage, Settled, Settlement, Success
from pg_queue.settings import QueueSettings, StoreSettings
from pg_queue.sql import statements
from pg_queue.storage.capable import Capable
from pg_queue.storage.postgres.connection import StoreConnection
from pg_queue.storage.postgres.ends import Ends
from pg_queue.storage.postgres.outbox import PostgresOutbox
from pg_queue.storage.rows import (
    UNREADABLE,
    Depth,
    Row,
    claim_key,
    decode_claim,
    encode_message,
    encode_messages,
    encode_outcomes,
    readable,
)
from pg_queue.storage.workers import DatabaseWorkers

ENQUEUE_CHUNK = 2000
"""Most messages in one statement: bounds the memory that one of them takes on both sides."""

ENQUEUE_BYTES = 16 << 20
"""The same in characters of JSON; PostgreSQL takes at most 256 MB in one `jsonb`."""

Pair = tuple[uuid.UUID, uuid.UUID]


class PostgresStore(Capable):
    """Implements `pg_queue.ports.QueueStore`.

    A lease that has run out still holds until `expire_claims` takes the message back: a worker that comes late, and
    before anyone else got the message, may still settle or renew it.
    """

    capabilities = frozenset({Capability.TRANSACTIONS, Capability.SET_ENQUEUE, Capability.CANCEL, Capability.EVENTS})

    def __init__(self, conf: QueueSettings, place: StoreSettings) -> None:
        super().__init__(place)
        self.database = place.database
        connection = StoreConnection(place.database)
        self._fetch, self._count = connection.fetch, connection.count
        self.workers = DatabaseWorkers(place.database, self.namespace)
        self._conf = conf
        self._messages = statements("messages")
        self._outcomes = statements("outcomes")
        self._outbox = PostgresOutbox(connection, self.namespace)
        self._ends = Ends(connection, conf, self.namespace, self._outbox, self._enqueue_in)

    @property
    def outbox(self) -> PostgresOutbox:
        """See the port."""
        return self._outbox

    def enqueue(self, messages: Sequence[NewMessage]) -> list[uuid.UUID]:
        """See the port."""
        self._check_demands(messages)
        if len(messages) == 1:
            row = encode_message(messages[0], self._conf.max_attempts)
            self._fetch(self._messages["enqueue_one"], row)
            return [row["id"]]
        ids, chunks = encode_messages(messages, self._conf.max_attempts, count=ENQUEUE_CHUNK, size=ENQUEUE_BYTES)
        queues = sorted({message.queue for message in messages if message.run_after is None})
        if len(chunks) == 1:
            self._fetch(self._messages["enqueue"], {"messages": chunks[0], "queues": queues})
            return ids
        with transaction.atomic(using=self.database, savepoint=False):
            for chunk in chunks:
                self._fetch(self._messages["enqueue"], {"messages": chunk, "queues": queues})
        return ids

    def claim(self, *, queues: Sequence[str], limit: int, lease: timedelta, worker: str) -> list[Claim]:
        """See the port."""
        parameters = {
            "namespace": self.namespace,
            "queues": list(queues),
            "limit": limit,
            "lease": lease.total_seconds(),
            "worker": worker,
        }
        rows = self._fetch(self._messages["claim"], parameters)
        try:
            return [decode_claim(row) for row in rows]
        except UNREADABLE:
            return self._readable_claims(rows)

    def renew(self, claims: Sequence[Pair], *, lease: timedelta) -> set[uuid.UUID]:
        """See the port."""
        return self._touch(self._messages["renew"], claims, lease=lease.total_seconds())

    def release(self, claims: Sequence[Pair]) -> set[uuid.UUID]:
        """See the port."""
        return self._touch(self._messages["release"], claims)

    def settle(self, settlements: Sequence[Settlement]) -> dict[uuid.UUID, Settled]:
        """See the port. Successes from which nothing follows are one statement; what is left is a transaction."""
        answers = {settlement.token: Settled.LOST for settlement in settlements}
        if all(isinstance(s.outcome, Success) and not s.events for s in settlements):
            answers |= dict.fromkeys(self._succeed(settlements), Settled.DONE)
        left = [settlement for settlement in settlements if answers[settlement.token] is Settled.LOST]
        return answers | self._ends.settle(left) if left else answers

    def expire_claims(self, *, limit: int) -> int:
        """See the port."""
        return self._ends.expire(limit=limit)

    def cancel(self, message_ids: Sequence[uuid.UUID], *, reason: str = "") -> set[uuid.UUID]:
        """See the port."""
        return self._ends.cancel(message_ids, reason=reason)

    def get(self, message_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Message]:
        """See the port. What an outcome does not keep is empty: its args and kwargs."""
        rows = self._fetch(self._outcomes["get"], {"ids": list(message_ids)})
        return {message.id: message for message in readable(rows)}

    def take_outcomes(self, report_to: str, *, limit: int) -> list[Message]:
        """See the port."""
        rows = self._fetch(self._outcomes["take_outcomes"], {"report_to": report_to, "limit": limit})
        return list(readable(rows))

    def retain(self, *, limit: int) -> int:
        """See the port."""
        results = self._count(self._outcomes["retain_results"], {"limit": limit})
        if not self._conf.dead_letter_ttl_seconds:
            return results
        parameters = {"limit": limit, "ttl": self._conf.dead_letter_ttl_seconds}
        return results + self._count(self._outcomes["retain_dead_letters"], parameters)

    def replay(self, message_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """See the port. Joins the caller's transaction."""
        return {row[0] for row in self._fetch(self._outcomes["replay"], {"ids": list(message_ids)})}

    def depths(self) -> list[Depth]:
        """See the port."""
        return [
            Depth(queue=row[0], waiting=row[1], delayed=row[2], running=row[3], dead=row[4], oldest_due_seconds=row[5])
            for row in self._fetch(self._messages["depths"], {})
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
                failure = Failure(type="message.unreadable", message=f"{type(error).__name__}: {error}")
                message_id, token = claim_key(row)
                deaths.append(Settlement(message_id=message_id, token=token, outcome=Death(failure=failure)))
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

    def _enqueue_in(self, namespace: str, messages: Sequence[NewMessage]) -> None:
        place = self if namespace == self.namespace else self.within(namespace)
        place.enqueue(messages)

    def _ttl_seconds(self, ttl: timedelta | None) -> float:
        return self._conf.result_ttl_seconds if ttl is None else ttl.total_seconds()

    def _touch(self, statement: str, claims: Sequence[Pair], **parameters: Any) -> set[uuid.UUID]:
        if not claims:
            return set()
        ids, tokens = zip(*claims, strict=True)
        return {row[0] for row in self._fetch(statement, {"ids": list(ids), "tokens": list(tokens), **parameters})}
