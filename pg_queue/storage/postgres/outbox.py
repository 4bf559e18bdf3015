"""The outbox: events that leave the database after the transaction that published them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from pg_queue.domain import Backlog, Event, NewEvent, PublishedEvent
from pg_queue.sql import statements
from pg_queue.storage.postgres.connection import StoreConnection
from pg_queue.storage.rows import decode_event, decode_published, encode_events, readable_events


class PostgresOutbox:
    """Implements `pg_queue.ports.Outbox`."""

    def __init__(self, connection: StoreConnection, namespace: str) -> None:
        self._connection, self._namespace = connection, namespace
        self._statements = statements("outbox")

    def publish(self, events: Sequence[NewEvent]) -> list[uuid.UUID]:
        """See the port."""
        if not events:
            return []
        ids, encoded = encode_events(events)
        self._connection.count(self._statements["publish"], {"namespace": self._namespace, "events": encoded})
        return ids

    def lease(self, topics: Sequence[str], *, limit: int, lease: timedelta) -> list[Event]:
        """See the port."""
        parameters = {
            "namespace": self._namespace,
            "topics": list(topics),
            "limit": limit,
            "lease": lease.total_seconds(),
        }
        rows = self._connection.fetch(self._statements["lease"], parameters)
        return list(readable_events(rows, decode_event, lambda row: row[0]))

    def confirm(self, events: Sequence[Event]) -> set[uuid.UUID]:
        """See the port. Joins the caller's transaction."""
        return self._end_lease("confirm", events)

    def defer(self, events: Sequence[Event], *, delay: timedelta, error: str) -> set[uuid.UUID]:
        """See the port. Joins the caller's transaction."""
        return self._end_lease("defer", events, delay=delay.total_seconds(), error=error)

    def get(self, event_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, PublishedEvent]:
        """See the port."""
        rows = self._of("get", list(event_ids))
        return {one.id: one for one in readable_events(rows, decode_published, lambda row: row[0])}

    def drop(self, event_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """See the port."""
        return {row[0] for row in self._of("drop", list(event_ids))}

    def backlog(self) -> Sequence[Backlog]:
        """See the port."""
        rows = self._connection.fetch(self._statements["backlog"], {"namespace": self._namespace})
        return [Backlog(topic=row[0], waiting=row[1], failing=row[2], oldest_seconds=row[3]) for row in rows]

    def _of(self, name: str, ids: list[uuid.UUID]) -> list[Any]:
        parameters = {"namespace": self._namespace, "ids": ids}
        return list(self._connection.fetch(self._statements[name], parameters)) if ids else []

    def _end_lease(self, name: str, events: Sequence[Event], **parameters: Any) -> set[uuid.UUID]:
        if not events:
            return set()
        held = {"ids": [event.id for event in events], "tokens": [event.token for event in events]}
        return {row[0] for row in self._connection.fetch(self._statements[name], held | parameters)}
