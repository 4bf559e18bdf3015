"""The outbox: events that leave the store after the transaction that published them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from pg_queue.domain import Backlog, Event, NewEvent, PublishedEvent
from pg_queue.errors import InvalidMessage
from pg_queue.storage.instants import microseconds, to_instant
from pg_queue.storage.mongodb.documents import hexes
from pg_queue.storage.mongodb.server import Document, Server
from pg_queue.storage.rows import decode_event, decode_published, encode_json, readable_events
from pg_queue.uuid7 import uuid7

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession


class MongoOutbox:
    """Implements `pg_queue.ports.Outbox`."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server, self._namespace = server, namespace

    def publish(self, events: Sequence[NewEvent]) -> list[UUID]:
        """See the port. Raises: InvalidMessage (field `id`) for an id that is there already."""
        given = hexes(event.id for event in events if event.id)

        def publish(session: ClientSession | None, now: int) -> list[UUID]:
            found = self._server.collection("events").find_one({"_id": {"$in": given}}, {"_id": 1}, session=session)
            if taken := [found["_id"]] if found else [one for one in given if given.count(one) > 1]:
                raise InvalidMessage(field="id", expected="an id that no event has", got=str(UUID(taken[0])))
            return self.store(events, session=session, now=now, namespace=self._namespace)

        return self._server.transact(publish) if events else []

    def store(
        self, events: Sequence[NewEvent], *, session: ClientSession | None, now: int, namespace: str
    ) -> list[UUID]:
        """The same for any namespace, in a transaction. Of an id that is there already, nothing is published again."""
        events = self._without_known(events, session)
        if not events:
            return []
        first = self._server.numbers(len(events))
        ids = [event.id or uuid7() for event in events]
        documents = [
            {
                "_id": event_id.hex,
                "namespace": namespace,
                "topic": event.topic,
                "key": event.key or str(event_id),
                "payload": None if event.payload is None else encode_json(event.payload),
                "created_at": now,
                "run_after": now,
                "sequence": first + at,
                "attempts": 0,
                "error": "",
                "token": None,
            }
            for at, (event_id, event) in enumerate(zip(ids, events, strict=True))
        ]
        self._server.collection("events").insert_many(documents, session=session)
        return ids

    def _without_known(self, events: Sequence[NewEvent], session: ClientSession | None) -> Sequence[NewEvent]:
        given = hexes(event.id for event in events if event.id)
        if not given:
            return events
        known = self._server.collection("events").find({"_id": {"$in": given}}, {"_id": 1}, session=session)
        ids = {one["_id"] for one in known}
        return [event for event in events if event.id is None or event.id.hex not in ids]

    def _own(self, event_ids: Iterable[UUID]) -> Document:
        return {"_id": {"$in": hexes(event_ids)}, "namespace": self._namespace}

    def lease(self, topics: Sequence[str], *, limit: int, lease: timedelta) -> list[Event]:
        """See the port. Each event is held by one update of its document, which finds it only while it is due."""
        with self._server.errors():
            now, events = self._server.now(), self._server.collection("events")
            due = {"namespace": self._namespace, "topic": {"$in": list(topics)}, "run_after": {"$lte": now}}
            turn = [("run_after", 1), ("sequence", 1)]
            ids = [one["_id"] for one in events.find(due, {"_id": 1}).sort(turn).limit(limit)] if limit > 0 else []
            held = [
                events.find_one_and_update(
                    {"_id": one, "run_after": {"$lte": now}},
                    {
                        "$set": {"token": uuid4().hex, "run_after": now + microseconds(lease)},
                        "$inc": {"attempts": 1},
                    },
                    return_document=True,
                )
                for one in ids
            ]
        found = [one for one in held if one is not None]
        return list(readable_events(found, _decoded, lambda one: one["_id"]))

    def confirm(self, events: Sequence[Event]) -> set[UUID]:
        """See the port."""

        def confirm(session: ClientSession | None, now: int) -> set[UUID]:
            found = self._server.collection("events")
            return {one.id for one in events if found.delete_one(_held(one), session=session).deleted_count}

        return self._server.transact(confirm) if events else set()

    def defer(self, events: Sequence[Event], *, delay: timedelta, error: str) -> set[UUID]:
        """See the port."""

        def defer(session: ClientSession | None, now: int) -> set[UUID]:
            found = self._server.collection("events")
            change = {"$set": {"token": None, "run_after": now + microseconds(delay), "error": error}}
            return {one.id for one in events if found.update_one(_held(one), change, session=session).matched_count}

        return self._server.transact(defer) if events else set()

    def get(self, event_ids: Iterable[UUID]) -> dict[UUID, PublishedEvent]:
        """See the port."""
        with self._server.errors():
            found = list(self._server.collection("events").find(self._own(event_ids)))
        return {one.id: one for one in readable_events(found, _published, lambda one: one["_id"])}

    def drop(self, event_ids: Sequence[UUID]) -> set[UUID]:
        """See the port."""

        def drop(session: ClientSession | None, now: int) -> set[UUID]:
            events = self._server.collection("events")
            ids = [one["_id"] for one in events.find(self._own(event_ids), {"_id": 1}, session=session)]
            events.delete_many({"_id": {"$in": ids}}, session=session)
            return {UUID(one) for one in ids}

        return self._server.transact(drop) if event_ids else set()

    def backlog(self) -> list[Backlog]:
        """See the port."""
        with self._server.errors():
            now = self._server.now()
            rows = list(self._server.snapshot("events").aggregate(backlog_pipeline(self._namespace)))
        return [
            Backlog(
                topic=row["_id"],
                waiting=row["waiting"],
                failing=row["failing"],
                oldest_seconds=(now - row["oldest"]) / 1e6,
            )
            for row in rows
        ]


def backlog_pipeline(namespace: str) -> list[Document]:
    """What waits, per topic."""
    return [
        {"$match": {"namespace": namespace}},
        {
            "$group": {
                "_id": "$topic",
                "waiting": {"$sum": 1},
                "failing": {"$sum": {"$cond": [{"$ne": ["$error", ""]}, 1, 0]}},
                "oldest": {"$min": "$created_at"},
            }
        },
        {"$sort": {"_id": 1}},
    ]


def _held(event: Event) -> Document:
    return {"_id": event.id.hex, "token": event.token.hex}


def _decoded(document: Document) -> Event:
    return decode_event((*_row(document), UUID(document["token"])))


def _published(document: Document) -> PublishedEvent:
    return decode_published(_row(document))


def _row(document: Document) -> tuple[Any, ...]:
    return (
        UUID(document["_id"]),
        document["topic"],
        document["payload"],
        document["key"],
        to_instant(document["created_at"]),
        document["attempts"],
        document["error"],
    )
