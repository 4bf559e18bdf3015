"""How messages get in. The plain ones cost one statement; those with a key, a barrier or continuations another one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pg_queue.domain import NewMessage
from pg_queue.settings import QueueSettings
from pg_queue.sql import statements
from pg_queue.storage.postgres.connection import StoreConnection
from pg_queue.storage.rows import encode_message, encode_messages, encode_whole_messages, waker

ENQUEUE_CHUNK = 2000
"""Most messages in one statement: bounds the memory that one of them takes on both sides."""

ENQUEUE_BYTES = 16 << 20
"""The same in characters of JSON; PostgreSQL takes at most 256 MB in one `jsonb`."""


class Enqueueing:
    """Stores messages in one namespace. Each method joins the caller's transaction, and stores all or none."""

    def __init__(self, connection: StoreConnection, conf: QueueSettings, namespace: str) -> None:
        self._connection, self._conf, self._namespace = connection, conf, namespace
        self._statements = statements("messages")

    def enqueue(self, messages: Sequence[NewMessage]) -> list[uuid.UUID]:
        """See `QueueStore.enqueue`."""
        if any(m.key is not None or m.on_success or m.on_failure for m in messages):
            return self.enqueue_whole(messages)
        if len(messages) == 1:
            row = encode_message(messages[0], self._namespace, self._conf.max_attempts)
            self._connection.fetch(self._statements["enqueue_one"], row)
            return [row["id"]]
        ids, chunks = encode_messages(messages, self._conf.max_attempts, count=ENQUEUE_CHUNK, size=ENQUEUE_BYTES)
        with self._transaction(len(chunks)):
            for chunk in chunks:
                self._connection.fetch(self._statements["enqueue"], self._parameters(chunk, messages))
        return ids

    def enqueue_whole(self, messages: Sequence[NewMessage], *, barrier_id: uuid.UUID | None = None) -> list[uuid.UUID]:
        """The same with all that messages may have, and the barrier that waits for them.

        Of several with one key the first stands, and all answer to its id.
        """
        first_by_key: dict[str, int] = {}
        places = [at if m.key is None else first_by_key.setdefault(m.key, at) for at, m in enumerate(messages)]
        distinct = sorted(set(places))
        ids = self._enqueue_distinct([messages[at] for at in distinct], barrier_id)
        by_place = dict(zip(distinct, ids, strict=True))
        return [by_place[at] for at in places]

    def _enqueue_distinct(self, messages: Sequence[NewMessage], barrier_id: uuid.UUID | None) -> list[uuid.UUID]:
        held: dict[str, uuid.UUID] = {}
        with self._transaction(len(messages)):
            ids = self._store(messages, barrier_id, held)
            while missing := [m for m in messages if m.key is not None and m.key not in held]:
                self._store(missing, barrier_id, held)
        return [made if m.key is None else held[m.key] for m, made in zip(messages, ids, strict=True)]

    def _store(
        self, messages: Sequence[NewMessage], barrier_id: uuid.UUID | None, held: dict[str, uuid.UUID]
    ) -> list[uuid.UUID]:
        """Store those without a key and those that get theirs; note in `held` who holds which. The ids made for all."""
        ids, chunks = encode_whole_messages(
            messages,
            self._conf.max_attempts,
            self._conf.key_ttl_seconds,
            barrier_id=barrier_id,
            count=ENQUEUE_CHUNK,
            size=ENQUEUE_BYTES,
        )
        for chunk in chunks:
            rows = self._connection.fetch(self._statements["enqueue_whole"], self._parameters(chunk, messages))
            held |= {key: message_id for key, message_id in rows}
        return ids

    def _parameters(self, chunk: str, messages: Sequence[NewMessage]) -> dict[str, Any]:
        queues = sorted({message.queue for message in messages if message.run_after is None})
        wakers = [waker(self._namespace, queue) for queue in queues]
        return {"namespace": self._namespace, "messages": chunk, "wakers": wakers}

    def _transaction(self, statements: int) -> AbstractContextManager[None]:
        """One around several statements; a single one is its own, and spares the server two round trips."""
        if statements < 2:
            return nullcontext()
        return self._connection.atomic(savepoint=False)
