"""Events on their way out: leased, then confirmed or put off."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from pg_queue.domain import Backlog, Event, NewEvent
from pg_queue.errors import InvalidMessage
from pg_queue.storage.instants import microseconds, to_instant
from pg_queue.storage.redis.encoding import UNREADABLE, Row, pack_events
from pg_queue.storage.redis.server import Server


class RedisOutbox:
    """Implements `pg_queue.ports.Outbox`."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server, self._namespace = server, namespace

    def publish(self, events: Sequence[NewEvent]) -> list[uuid.UUID]:
        """See the port. Raises: InvalidMessage (field `id`) for an id that an event has already."""
        if not events:
            return []
        taken, *ids = self._run("outbox", "publish", events=pack_events(events))
        if taken:
            raise InvalidMessage(field="id", expected="an id that no event has", got=str(uuid.UUID(taken)))
        return [uuid.UUID(one) for one in ids]

    def lease(self, topics: Sequence[str], *, limit: int, lease: timedelta) -> list[Event]:
        """See the port."""
        rows = self._run("relaying", "lease", topics=list(topics), limit=limit, lease=microseconds(lease))
        return list(_readable(rows))

    def confirm(self, events: Sequence[Event]) -> set[uuid.UUID]:
        """See the port."""
        return self._answer("confirm", events)

    def defer(self, events: Sequence[Event], *, delay: timedelta, error: str) -> set[uuid.UUID]:
        """See the port."""
        return self._answer("defer", events, delay=microseconds(delay), error=error)

    def backlog(self) -> list[Backlog]:
        """See the port."""
        return [
            Backlog(topic=topic, waiting=waiting, failing=failing, oldest_seconds=int(age) / 1e6)
            for topic, waiting, failing, age in self._run("relaying", "backlog")
        ]

    def _answer(self, operation: str, events: Sequence[Event], **request: Any) -> set[uuid.UUID]:
        if not events:
            return set()
        leases = [[event.id.hex, event.token.hex] for event in events]
        return {uuid.UUID(one) for one in self._run("relaying", operation, leases=leases, **request)}

    def _run(self, topic: str, operation: str, **request: Any) -> Any:
        return self._server.run(topic, operation, namespace=self._namespace, seed=uuid.uuid4().hex, **request)


def _readable(rows: Sequence[Row]) -> Iterator[Event]:
    """What no operation has written stays leased, and stops nobody."""
    for row in rows:
        try:
            yield _decode(row)
        except UNREADABLE:
            continue


def _decode(row: Row) -> Event:
    id, topic, payload, key, created_at, attempts, error, token = row
    return Event(
        id=uuid.UUID(id),
        topic=topic,
        payload=json.loads(payload),
        key=str(uuid.UUID(key)) if key == id else key,
        created_at=to_instant(created_at),
        attempts=int(attempts),
        error=error,
        token=uuid.UUID(token),
    )
