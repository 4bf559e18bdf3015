"""What an operator does by hand, in bounded batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pg_queue.domain import Message, MessageState
from pg_queue.storage.mongodb.documents import LIVING, letter_of, message_of, readable
from pg_queue.storage.mongodb.outcomes import Outcomes
from pg_queue.storage.mongodb.server import Document, Server
from pg_queue.storage.mongodb.settling import Settling
from pg_queue.storage.rows import readable_page


class MongoOperations:
    """Implements `pg_queue.ports.Operations`."""

    def __init__(self, server: Server, namespace: str, settling: Settling, outcomes: Outcomes) -> None:
        self._server, self._namespace = server, namespace
        self._settling, self._outcomes = settling, outcomes

    def browse(
        self, *, queue: str | None = None, state: MessageState | None = None, limit: int, after: UUID | None = None
    ) -> list[Message]:
        """See the port."""
        states = [one for one in LIVING if state is None or one == state]
        return self._page({"state": {"$in": states}}, queue, limit, after, message_of) if states else []

    def dead(self, *, queue: str | None = None, limit: int, after: UUID | None = None) -> list[Message]:
        """See the port."""
        return self._page({"is_dead": True}, queue, limit, after, letter_of)

    def drop(self, message_ids: Sequence[UUID]) -> set[UUID]:
        """See the port."""
        return self._outcomes.drop(message_ids)

    def purge(self, queue: str, *, reason: str, limit: int) -> int:
        """See the port."""
        where: Document = {
            "namespace": self._namespace,
            "queue": queue,
            "state": MessageState.WAITING.value,
            "_id": {"$regex": "^[0-9a-f]{32}$"},  # what has another id was put there by hand: a claim sets it aside
        }
        return len(self._settling.cancel(where, reason=reason, limit=limit)) if limit > 0 else 0

    def clear_completed(self, *, before: datetime, limit: int) -> int:
        """See the port."""
        return self._outcomes.clear_completed(before, limit)

    def _page(
        self,
        kind: Document,
        queue: str | None,
        limit: int,
        after: UUID | None,
        decode: Callable[[Mapping[str, Any]], Message],
    ) -> list[Message]:
        where = {"namespace": self._namespace, **kind} | ({} if queue is None else {"queue": queue})

        def found_after(last: str | None) -> list[Document]:
            with self._server.errors():
                beyond = where if last is None else where | {"_id": {"$gt": last}}
                found = self._server.collection("messages").find(beyond)
                return list(found.sort([("_id", 1)]).limit(limit)) if limit > 0 else []

        return readable_page(
            found_after,
            lambda found: readable(found, decode),
            lambda document: document["_id"],
            after=after.hex if after else None,
            limit=limit,
        )
