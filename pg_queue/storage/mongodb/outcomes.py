"""What is kept of messages that have ended: outcomes until their time is over, dead letters until they are replayed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from pg_queue.domain import Message, MessageState
from pg_queue.settings import QueueSettings
from pg_queue.storage.instants import as_microseconds, microseconds
from pg_queue.storage.mongodb.barriers import MongoBarriers
from pg_queue.storage.mongodb.documents import LIVING, hexes, outcome_of, readable
from pg_queue.storage.mongodb.messages import Messages
from pg_queue.storage.mongodb.server import Document, Server

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession

KNOWN: Document = {"$or": [{"state": {"$in": LIVING}}, {"has_outcome": True}]}
"""The filter of messages that are known: those that live, and those whose outcome is kept."""
TAKEN: Document = {"has_outcome": True, "owed_to": None}
"""The filter of outcomes that nobody waits for."""
GONE: Document = {"state": {"$nin": LIVING}, "has_outcome": False, "is_dead": False}
"""The filter of messages of which nothing is kept any more."""


class Outcomes:
    """Hands outcomes over, replays dead letters, and deletes both when their time has come."""

    def __init__(
        self, server: Server, namespace: str, messages: Messages, barriers: MongoBarriers, conf: QueueSettings
    ) -> None:
        self._server, self._namespace, self._messages = server, namespace, messages
        self._barriers, self._conf = barriers, conf

    def take(self, report_to: str, limit: int, hold: timedelta) -> list[Message]:
        """See `pg_queue.ports.QueueStore.take_outcomes`."""

        def take(session: ClientSession | None, now: int) -> list[Document]:
            messages = self._server.collection("messages")
            owed = self._owed(report_to) | {"held_until": {"$not": {"$gt": now}}}
            found = list(messages.find(owed, session=session).sort([("finished_at", 1)]).limit(limit))
            handed = {"held_until": now + microseconds(hold.total_seconds())} if hold else {"owed_to": None}
            messages.update_many({"_id": {"$in": [one["_id"] for one in found]}}, {"$set": handed}, session=session)
            return found

        return list(readable(self._server.transact(take), outcome_of)) if limit > 0 else []

    def confirm(self, report_to: str, outcomes: Sequence[Message]) -> None:
        """See `pg_queue.ports.QueueStore.confirm_outcomes`."""
        ended = [(one.id.hex, one.finished_at) for one in outcomes if one.finished_at]
        told = [{"_id": one, "finished_at": as_microseconds(finished_at)} for one, finished_at in ended]
        if told:
            where = self._owed(report_to) | {"$or": told}
            with self._server.errors():
                self._server.collection("messages").update_many(where, {"$set": {"owed_to": None}})

    def _owed(self, report_to: str) -> Document:
        return {"namespace": self._namespace, "owed_to": report_to, "has_outcome": True}

    def replay(self, message_ids: Sequence[UUID], keep_attempts: bool) -> set[UUID]:
        """See `pg_queue.ports.QueueStore`."""

        def replay(session: ClientSession | None, now: int) -> list[Document]:
            messages = self._server.collection("messages")
            where = {"_id": {"$in": hexes(message_ids)}, "namespace": self._namespace, "is_dead": True}
            found = list(messages.find(where, session=session))
            first = self._server.numbers(len(found))
            for at, document in enumerate(found):
                kept = min(document["attempts"], document["max_attempts"] - 1) if keep_attempts else 0
                risen = {"$set": waits_anew(now, first + at) | {"attempts": kept}}
                messages.update_one({"_id": document["_id"]}, risen, session=session)
                if document["key"] is not None:
                    self._messages.resume_key(document, session, now)
            return found

        found = self._server.transact(replay)
        self._server.wake(self._namespace, [one["queue"] for one in found])
        return {UUID(one["_id"]) for one in found}

    def retain(self, limit: int) -> int:
        """See `pg_queue.ports.QueueStore`. Of all namespaces."""

        def retain(session: ClientSession | None, now: int) -> int:
            count = self._forget(TAKEN | {"expires_at": {"$lte": now}}, "has_outcome", limit, session)
            count += self._delete("keys", {"expires_at": {"$lte": now}}, limit, session)
            count += self._delete("locks", {"expires_at": {"$lte": now}}, limit, session)
            if ttl := microseconds(self._conf.dead_letter_ttl_seconds):
                old = {"is_dead": True, "died_at": {"$lte": now - ttl}}
                count += self._forget(old, "is_dead", limit, session)
            if ttl := microseconds(self._conf.result_ttl_seconds):
                count += self._barriers.retain(before=now - ttl, limit=limit, session=session)
            return count

        return self._server.transact(retain)

    def clear_completed(self, before: datetime, limit: int) -> int:
        """See `pg_queue.ports.Operations`."""
        old = TAKEN | {"namespace": self._namespace, "finished_at": {"$lt": as_microseconds(before)}}
        return self._server.transact(lambda session, _: self._forget(old, "has_outcome", limit, session))

    def drop(self, message_ids: Sequence[UUID]) -> set[UUID]:
        """See `pg_queue.ports.Operations`."""
        where = {"_id": {"$in": hexes(message_ids)}, "namespace": self._namespace, "is_dead": True}

        def drop(session: ClientSession | None, now: int) -> set[UUID]:
            found = list(self._server.collection("messages").find(where, {"_id": 1}, session=session))
            self._forget(where, "is_dead", len(found), session)
            return {UUID(one["_id"]) for one in found}

        return self._server.transact(drop) if message_ids else set()

    def _forget(self, where: Document, flag: str, limit: int, session: ClientSession | None) -> int:
        """Of at most `limit` of these, let go what the flag keeps; a document of which nothing is kept goes."""
        messages = self._server.collection("messages")
        ids = [one["_id"] for one in messages.find(where, {"_id": 1}, session=session).limit(limit)] if limit else []
        if ids:
            among = {"_id": {"$in": ids}}
            messages.update_many(among, {"$set": {flag: False}}, session=session)
            messages.delete_many(among | GONE, session=session)
        return len(ids)

    def _delete(self, name: str, where: Document, limit: int, session: ClientSession | None) -> int:
        found = self._server.collection(name)
        ids = [one["_id"] for one in found.find(where, {"_id": 1}, session=session).limit(limit)]
        if ids:
            found.delete_many({"_id": {"$in": ids}}, session=session)
        return len(ids)


def waits_anew(now: int, sequence: int) -> Document:
    """The fields of a dead letter that is replayed: as if it had just been enqueued. Its last failure stays."""
    return {
        "state": MessageState.WAITING.value,
        "attempts": 0,
        "run_after": now,
        "sequence": sequence,
        "is_dead": False,
        "has_outcome": False,
        "owed_to": None,
        "held_until": None,
        "worker": None,
        "started_at": None,
        "finished_at": None,
        "died_at": None,
        "expires_at": None,
        "result": None,
    }
