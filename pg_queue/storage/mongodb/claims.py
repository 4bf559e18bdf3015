"""Claims: which messages are next, given to a worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from pg_queue.domain import MAX_PRIORITY, MIN_PRIORITY, MessageState, Progress
from pg_queue.storage.instants import microseconds
from pg_queue.storage.mongodb.ends import waiting_again
from pg_queue.storage.mongodb.server import Document, Server

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession
    from pymongo.collection import Collection
    from pymongo.cursor import Cursor

logger = logging.getLogger(__name__)

Pair = tuple[UUID, UUID]

PRIORITIES = list(range(MIN_PRIORITY, MAX_PRIORITY + 1))
"""All of them by name: so the index is read at ten places, and not past every delayed message."""
_NUMBER: Document = {"$gte": 0, "$not": {"$type": "array"}}
"""Of an array, `$gte` alone would ask each element."""
COUNTED: Document = {"attempts": _NUMBER, "max_attempts": _NUMBER}
"""The filter of messages that can be claimed and ended: numbers where numbers must be, whoever put them there."""
TURN = [("priority", -1), ("run_after", 1), ("sequence", 1)]


class Claims:
    """Chooses and holds messages of one namespace.

    Each message is held by one update of its document, which finds it only while it waits: two callers never get the
    same. Nothing is locked meanwhile. A caller that is cut off may have held some of them: their leases run out.
    """

    def __init__(self, server: Server, namespace: str) -> None:
        self._server, self._namespace = server, namespace

    def claim(self, queues: Sequence[str], *, limit: int, lease: timedelta, worker: str) -> list[Document]:
        """The documents as they are held now, in the order of the claim."""
        if limit < 1:
            return []
        while True:
            now = self._server.now()
            ids = self._next(self._on(queues), limit, now)
            held = self._hold(ids, now=now, lease=lease, worker=worker)
            if held or not ids:  # where others were faster with all of them, there may be more
                return held

    def next_due(self, queues: Sequence[str]) -> int | None:
        """When the next waiting message of these queues that are on is due; None: there is none."""
        found = [
            one["run_after"]
            for queue in self._on(queues)
            for priority in PRIORITIES
            for one in self._waiting(queue, priority).sort([("run_after", 1)]).limit(1)
        ]
        return min(found, default=None)

    def renew(self, pairs: Sequence[Pair], lease: timedelta) -> set[UUID]:
        """See `pg_queue.ports.QueueStore`."""
        return self._touch(pairs, lambda now: {"$set": {"lease_until": now + microseconds(lease)}})

    def release(self, pairs: Sequence[Pair]) -> set[UUID]:
        """See `pg_queue.ports.QueueStore`."""
        freed = waiting_again(failure=None, run_after=None) | {"started_at": None}
        return self._touch(pairs, lambda _: {"$set": freed, "$inc": {"attempts": -1}})

    def set_aside(self, document: Document) -> None:
        """Keep a document that was claimed and whose id is none out of everybody's way."""
        logger.error("message.unreadable message=%s; its id is none: set aside", document["_id"])
        aside = {"$set": {"state": "unreadable", "token": None}}
        self._server.collection("messages").update_one({"_id": document["_id"]}, aside)

    def _next(self, queues: Sequence[str], limit: int, now: int) -> list[str]:
        ids: list[str] = []
        for queue in queues:
            due = self._server.collection("messages").find(due_in(self._namespace, queue, now), {"_id": 1})
            ids += [one["_id"] for one in due.sort(TURN).limit(limit - len(ids))]
            if len(ids) >= limit:
                break
        return ids

    def _hold(self, ids: Sequence[str], *, now: int, lease: timedelta, worker: str) -> list[Document]:
        from pymongo import UpdateOne

        if not ids:
            return []
        tokens = {uuid4().hex: one for one in ids}
        messages = self._server.collection("messages")
        calls = [
            UpdateOne(*holding(message_id, token, worker=worker, now=now, until=now + microseconds(lease)))
            for token, message_id in tokens.items()
        ]
        messages.bulk_write(calls, ordered=False)
        found = {one["token"]: one for one in messages.find({"token": {"$in": list(tokens)}})}
        return [found[token] for token in tokens if token in found]

    def note_progress(self, reports: Sequence[tuple[UUID, UUID, Progress]]) -> set[UUID]:
        """See `pg_queue.ports.QueueStore`. Each is an update of its own."""
        messages, now, held = self._server.collection("messages"), self._server.now(), set()
        for message_id, token, one in reports:
            where = {"_id": message_id.hex, "token": token.hex, "state": MessageState.RUNNING.value}
            noted = {"done": one.done, "total": one.total, "stage": one.stage, "at": now}
            if messages.update_one(where, {"$set": {"progress": noted}}).matched_count:
                held.add(token)
        return held

    def _touch(self, pairs: Sequence[Pair], change: Callable[[int], Document]) -> set[UUID]:
        """Change the messages that these tokens hold; the tokens of those. And say that those wait, if they do now."""

        def touch(session: ClientSession | None, now: int) -> list[Document]:
            messages = self._server.collection("messages")
            held = held_among(messages, pairs, session)
            ids = [one["_id"] for one in held]
            messages.update_many({"_id": {"$in": ids}}, change(now), session=session)
            return held

        held = self._server.transact(touch) if pairs else []
        if "$inc" in change(0):
            self._server.wake_all((one["namespace"], one["queue"]) for one in held)
        return {UUID(one["token"]) for one in held}

    def _on(self, queues: Sequence[str]) -> list[str]:
        switches = self._server.collection("switches").find({"namespace": self._namespace, "is_on": False})
        off = {one["queue"] for one in switches}
        return [] if "" in off else [queue for queue in dict.fromkeys(queues) if queue not in off]

    def _waiting(self, queue: str, priority: int) -> Cursor[Document]:
        where = {"namespace": self._namespace, "queue": queue, "state": MessageState.WAITING.value}
        is_claimable = {"priority": priority, "run_after": _NUMBER, **COUNTED}
        return self._server.collection("messages").find(where | is_claimable, {"run_after": 1})


def due_in(namespace: str, queue: str, now: int) -> Document:
    """The filter of messages that may be claimed."""
    return {
        "namespace": namespace,
        "queue": queue,
        "state": MessageState.WAITING.value,
        "priority": {"$in": PRIORITIES},
        "run_after": {"$lte": now},
        **COUNTED,
    }


def holding(message_id: str, token: str, *, worker: str, now: int, until: int) -> tuple[Document, Document]:
    """Filter and update that give a message to a worker, if it waits still."""
    return (
        {"_id": message_id, "state": MessageState.WAITING.value},
        {
            "$set": {
                "state": MessageState.RUNNING.value,
                "token": token,
                "worker": worker,
                "started_at": now,
                "lease_until": until,
                "progress": None,
            },
            "$inc": {"attempts": 1},
        },
    )


def held_among(messages: Collection[Document], pairs: Sequence[Pair], session: ClientSession | None) -> list[Document]:
    """Of these pairs of a message's id and a token, the documents of those that hold."""
    by_token = {token.hex: message_id.hex for message_id, token in pairs}
    where = {"token": {"$in": list(by_token)}, "state": MessageState.RUNNING.value}
    return [one for one in messages.find(where, session=session) if by_token[one["token"]] == one["_id"]]
