"""What an operator does by hand, in bounded batches."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pg_queue.domain import Message, MessageState
from pg_queue.settings import QueueSettings
from pg_queue.storage.instants import microseconds
from pg_queue.storage.redis.encoding import Row, from_instant, readable
from pg_queue.storage.redis.server import Server
from pg_queue.storage.rows import readable_page


class RedisOperations:
    """Implements `pg_queue.ports.Operations`."""

    def __init__(self, server: Server, namespace: str, conf: QueueSettings) -> None:
        self._server, self._namespace = server, namespace
        self._ttl = microseconds(conf.result_ttl_seconds)

    def browse(
        self, *, queue: str | None = None, state: MessageState | None = None, limit: int, after: uuid.UUID | None = None
    ) -> list[Message]:
        """See the port."""
        if state is not None and state not in (MessageState.WAITING, MessageState.RUNNING):
            return []
        return self._page("browse", queue=queue, state=state or False, limit=limit, after=after)

    def dead(self, *, queue: str | None = None, limit: int, after: uuid.UUID | None = None) -> list[Message]:
        """See the port."""
        return self._page("dead", queue=queue, limit=limit, after=after)

    def drop(self, message_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """See the port."""
        ids = [one.hex for one in message_ids]
        return {uuid.UUID(one) for one in self._run("outcomes", "drop", ids=ids)} if ids else set()

    def purge(self, queue: str, *, reason: str, limit: int) -> int:
        """See the port."""
        request = {"queue": queue, "limit": limit, "reason": reason, "result_ttl": self._ttl}
        return int(self._run("settle", "purge", seed=uuid.uuid4().hex, **request))

    def clear_completed(self, *, before: datetime, limit: int) -> int:
        """See the port."""
        return int(self._run("outcomes", "clear_completed", before=from_instant(before), limit=limit))

    def _page(
        self, operation: str, *, queue: str | None, limit: int, after: uuid.UUID | None, **request: Any
    ) -> list[Message]:
        def rows_after(last: str | None) -> list[Row]:
            where = {"queue": queue or False, "after": last or False, "limit": limit}
            return list(self._run("reading", operation, **where, **request))

        first = after.hex if after else None
        return readable_page(rows_after, readable, lambda row: row[0], after=first, limit=limit)

    def _run(self, topic: str, operation: str, **request: Any) -> Any:
        return self._server.run(topic, operation, namespace=self._namespace, **request)
