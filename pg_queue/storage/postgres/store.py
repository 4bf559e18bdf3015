"""Messages from enqueue to outcome."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction

from pg_queue.domain import Capability, Claim, Death, Failure, Message, NewMessage, Retry, Settled, Settlement, Success
from pg_queue.settings import QueueSettings, StoreSettings
from pg_queue.sql import statements
from pg_queue.storage.capable import Capable
from pg_queue.storage.postgres.connection import StoreConnection
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

    capabilities = frozenset({Capability.TRANSACTIONS, Capability.SET_ENQUEUE})

    def __init__(self, conf: QueueSettings, place: StoreSettings) -> None:
        super().__init__(place)
        self.database = place.database
        connection = StoreConnection(place.database)
        self._fetch, self._count = connection.fetch, connection.count
        self.workers = DatabaseWorkers(place.database, self.namespace)
        self._conf = conf
        self._messages = statements("messages")
        self._outcomes = statements("outcomes")

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
        """See the port. The whole batch is one transaction; successes alone are one statement."""
        if not any(isinstance(s.outcome, Retry | Death) for s in settlements):
            return self._lost(settlements) | self._succeed(settlements)
        with transaction.atomic(using=self.database):
            retrying = self._retry(settlements)
            return self._lost(settlements) | self._succeed(settlements) | retrying | self._bury(settlements, retrying)

    def expire_claims(self, *, limit: int) -> int:
        """See the port."""
        ttl = self._conf.result_ttl_seconds
        ((returned, died, _),) = self._fetch(self._messages["expire"], {"limit": limit, "ttl": ttl})
        return int(returned) + int(died)

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

    def _lost(self, settlements: Sequence[Settlement]) -> dict[uuid.UUID, Settled]:
        return {settlement.token: Settled.LOST for settlement in settlements}

    def _succeed(self, settlements: Sequence[Settlement]) -> dict[uuid.UUID, Settled]:
        outcomes = [
            (s, s.outcome.value, self._ttl_seconds(s.outcome.ttl))
            for s in settlements
            if isinstance(s.outcome, Success)
        ]
        return dict.fromkeys(self._settle("succeed", outcomes), Settled.DONE)

    def _retry(self, settlements: Sequence[Settlement]) -> dict[uuid.UUID, Settled]:
        outcomes = [
            (s, s.outcome.failure.as_json(), s.outcome.delay.total_seconds())
            for s in settlements
            if isinstance(s.outcome, Retry)
        ]
        return dict.fromkeys(self._settle("retry", outcomes), Settled.RETRYING)

    def _bury(
        self, settlements: Sequence[Settlement], retrying: Mapping[uuid.UUID, Settled]
    ) -> dict[uuid.UUID, Settled]:
        outcomes = [
            (s, s.outcome.failure.as_json(), self._ttl_seconds(s.outcome.ttl if isinstance(s.outcome, Death) else None))
            for s in settlements
            if isinstance(s.outcome, Retry | Death) and s.token not in retrying
        ]
        return dict.fromkeys(self._settle("bury", outcomes), Settled.DEAD)

    def _settle(self, name: str, outcomes: list[tuple[Settlement, Any, float]]) -> list[uuid.UUID]:
        """The tokens that held."""
        if not outcomes:
            return []
        return [row[0] for row in self._fetch(self._outcomes[name], {"outcomes": encode_outcomes(outcomes)})]

    def _ttl_seconds(self, ttl: timedelta | None) -> float:
        return self._conf.result_ttl_seconds if ttl is None else ttl.total_seconds()

    def _touch(self, statement: str, claims: Sequence[Pair], **parameters: Any) -> set[uuid.UUID]:
        if not claims:
            return set()
        ids, tokens = zip(*claims, strict=True)
        return {row[0] for row in self._fetch(statement, {"ids": list(ids), "tokens": list(tokens), **parameters})}
