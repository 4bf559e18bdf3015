"""Events on their way out: leased, then confirmed or put off."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from pg_queue.domain import Backlog, Event, NewEvent, PublishedEvent
from pg_queue.errors import InvalidMessage
from pg_queue.storage.instants import microseconds, to_instant
from pg_queue.storage.redis.encoding import Row, pack_events
from pg_queue.storage.redis.server import Server
from pg_queue.storage.rows import readable_events


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
        return list(readable_events(rows, _decode, lambda row: row[0]))

    def confirm(self, events: Sequence[Event]) -> set[uuid.UUID]:
        """See the port."""
        return self._answer("confirm", events)

    def defer(self, events: Sequence[Event], *, delay: timedelta, error: str) -> set[uuid.UUID]:
        """See the port."""
        return self._answer("defer", events, delay=microseconds(delay), error=error)

    def get(self, event_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, PublishedEvent]:
        """See the port."""
        ids = [one.hex for one in event_ids]
        rows = self._run("relaying", "get", ids=ids) if ids else []
        return {one.id: one for one in readable_events(rows, _published, lambda row: row[0])}

    def drop(self, event_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """See the port."""
        ids = [one.hex for one in event_ids]
        return {uuid.UUID(one) for one in self._run("relaying", "drop", ids=ids)} if ids else set()

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


def _decode(row: Row) -> Event:
    return Event(**_fields(row), token=uuid.UUID(row[7]))


def _published(row: Row) -> PublishedEvent:
    return PublishedEvent(**_fields(row))


def _fields(row: Row) -> dict[str, Any]:
    id, topic, payload, key, created_at, attempts, error = row[:7]
    return {
        "id": uuid.UUID(id),
        "topic": topic,
        "payload": json.loads(payload),
        "key": str(uuid.UUID(key)) if key == id else key,
        "created_at": to_instant(created_at),
        "attempts": int(attempts),
        "error": error,
    }
