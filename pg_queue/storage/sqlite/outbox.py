"""The outbox: events that leave the file after the transaction that published them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pg_queue.domain import Backlog, Event, NewEvent, PublishedEvent
from pg_queue.sql import statements
from pg_queue.sqlite import as_instant, as_text
from pg_queue.storage.rows import readable_events
from pg_queue.storage.sqlite.session import Row, Session, after, dump_json
from pg_queue.uuid7 import uuid7


class SqliteOutbox:
    """Implements `pg_queue.ports.Outbox`."""

    def __init__(self, session: Session, namespace: str) -> None:
        self._session, self._namespace = session, namespace
        self._statements = statements("events", "sqlite")

    def publish(self, events: Sequence[NewEvent]) -> list[uuid.UUID]:
        """See the port."""
        return self._session.write(lambda now: self.store(events, now=now, namespace=self._namespace))

    def store(self, events: Sequence[NewEvent], *, now: datetime, namespace: str) -> list[uuid.UUID]:
        """The same for any namespace, in a transaction that has the write lock."""
        ids = [event.id or uuid7() for event in events]
        rows = [
            {
                "id": event_id.hex,
                "namespace": namespace,
                "topic": event.topic,
                "key": event.key or str(event_id),
                "payload": None if event.payload is None else dump_json(event.payload),
                "now": as_text(now),
            }
            for event_id, event in zip(ids, events, strict=True)
        ]
        self._session.each(self._statements["publish"], rows)
        return ids

    def lease(self, topics: Sequence[str], *, limit: int, lease: timedelta) -> list[Event]:
        """See the port."""

        def hold(now: datetime) -> list[Row]:
            parameters = {"namespace": self._namespace, "topics": json.dumps(list(topics)), "now": as_text(now)}
            ids = self._session.fetch(self._statements["due"], parameters | {"limit": limit})
            until = after(now, lease)
            held = [{"id": one, "token": uuid.uuid4().hex, "until": until} for (one,) in ids]
            return [row for one in held for row in self._session.fetch(self._statements["lease"], one)]

        return list(readable_events(self._session.write(hold), _decoded, lambda row: row[0]))

    def confirm(self, events: Sequence[Event]) -> set[uuid.UUID]:
        """See the port. Joins the caller's transaction."""
        return self._session.write(lambda now: self._end_lease("confirm", events))

    def defer(self, events: Sequence[Event], *, delay: timedelta, error: str) -> set[uuid.UUID]:
        """See the port. Joins the caller's transaction."""
        return self._session.write(lambda now: self._end_lease("defer", events, until=after(now, delay), error=error))

    def get(self, event_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, PublishedEvent]:
        """See the port."""
        rows = self._session.fetch(self._statements["get"], self._named(event_ids))
        return {one.id: one for one in readable_events(rows, _published, lambda row: row[0])}

    def drop(self, event_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """See the port."""
        drop, named = self._statements["drop"], self._named(event_ids)
        return {uuid.UUID(row[0]) for row in self._session.write(lambda now: self._session.fetch(drop, named))}

    def backlog(self) -> Sequence[Backlog]:
        """See the port."""
        parameters = {"namespace": self._namespace, "now": as_text(self._session.now())}
        rows = self._session.fetch(self._statements["backlog"], parameters)
        return [Backlog(topic=row[0], waiting=row[1], failing=row[2], oldest_seconds=row[3]) for row in rows]

    def _named(self, event_ids: Iterable[uuid.UUID]) -> dict[str, str]:
        return {"namespace": self._namespace, "ids": json.dumps([one.hex for one in event_ids])}

    def _end_lease(self, name: str, events: Sequence[Event], **parameters: Any) -> set[uuid.UUID]:
        """The ids of those whose token held."""
        pairs = [{"id": event.id.hex, "token": event.token.hex, **parameters} for event in events]
        found = [self._session.fetch(self._statements[name], pair) for pair in pairs]
        return {uuid.UUID(row[0]) for rows in found for row in rows}


def _decoded(row: Row) -> Event:
    return Event(**_fields(row), token=uuid.UUID(row[7]))


def _published(row: Row) -> PublishedEvent:
    return PublishedEvent(**_fields(row))


def _fields(row: Row) -> dict[str, Any]:
    return {
        "id": uuid.UUID(row[0]),
        "topic": row[1],
        "payload": None if row[2] is None else json.loads(row[2]),
        "key": row[3],
        "created_at": as_instant(row[4]),
        "attempts": row[5],
        "error": row[6],
    }
