"""Fan-out and fan-in: a document that counts the members that are missing, and keeps what follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from pg_queue.domain import Barrier, BarrierState, NewMessage
from pg_queue.errors import InvalidMessage
from pg_queue.storage.instants import to_instant
from pg_queue.storage.mongodb.documents import hexes
from pg_queue.storage.mongodb.messages import Messages
from pg_queue.storage.mongodb.server import Document, Server
from pg_queue.storage.parcels import pack, read_callback
from pg_queue.storage.rows import encode_json
from pg_queue.uuid7 import uuid7

if TYPE_CHECKING:
    from pymongo.client_session import ClientSession


class MongoBarriers:
    """Implements `pg_queue.ports.Barriers`."""

    def __init__(self, server: Server, messages: Messages, namespace: str) -> None:
        self._server, self._messages, self._namespace = server, messages, namespace

    def create(
        self,
        members: Sequence[NewMessage],
        *,
        callback: NewMessage | None = None,
        on_abort: NewMessage | None = None,
        id: UUID | None = None,
    ) -> Barrier:
        """See the port. Raises: InvalidMessage also for an id that is there already (field `id`)."""
        for member in members:
            if member.key is not None:
                raise InvalidMessage(field="key", expected="None for a member of a barrier", got=member.key)
        barrier_id, called_back = id or uuid7(), _identified(callback)
        self._server.transact(
            lambda session, now: self._open(barrier_id.hex, members, called_back, on_abort, session, now)
        )
        queues = [one.queue for one in (*members, *([callback] if callback and not members else []))]
        self._server.wake(self._namespace, queues)
        return self.get([barrier_id])[barrier_id]

    def get(self, barrier_ids: Iterable[UUID]) -> dict[UUID, Barrier]:
        """See the port."""
        with self._server.errors():
            wanted = {"_id": {"$in": hexes(barrier_ids)}, "namespace": self._namespace}
            found = [_decoded(one) for one in self._server.collection("barriers").find(wanted)]
        return {barrier.id: barrier for barrier in found}

    def count_down(self, barrier_id: str, count: int, session: ClientSession | None, now: int) -> list[tuple[str, str]]:
        """So many members have succeeded; in a transaction, as `abort`. Where something waits now."""
        barriers = self._server.collection("barriers")
        where = {"_id": barrier_id, "state": BarrierState.OPEN.value}
        less = {"$inc": {"remaining": -count}}
        found = barriers.find_one_and_update(where, less, return_document=True, session=session)
        if found is None or found["remaining"] > 0:
            return []
        end = {"state": BarrierState.DONE.value, "ended_at": now}
        barriers.update_one({"_id": barrier_id}, {"$set": end}, session=session)
        return self._follow_up(found, found["callback"], session, now)

    def abort(self, barrier_id: str, culprit_id: str, session: ClientSession | None, now: int) -> list[tuple[str, str]]:
        """A member has failed for good or was cancelled."""
        where = {"_id": barrier_id, "state": BarrierState.OPEN.value}
        end = {"state": BarrierState.ABORTED.value, "ended_at": now, "culprit_id": culprit_id}
        found = self._server.collection("barriers").find_one_and_update(where, {"$set": end}, session=session)
        return [] if found is None else self._follow_up(found, found["on_abort"], session, now)

    def retain(self, *, before: int, limit: int, session: ClientSession | None) -> int:
        """Delete at most `limit` barriers that ended before this instant; return how many."""
        barriers = self._server.collection("barriers")
        old = barriers.find({"ended_at": {"$lte": before}}, {"_id": 1}, session=session).limit(limit)
        ids = [one["_id"] for one in old]
        if ids:
            barriers.delete_many({"_id": {"$in": ids}}, session=session)
        return len(ids)

    def _open(
        self,
        barrier_id: str,
        members: Sequence[NewMessage],
        callback: NewMessage | None,
        on_abort: NewMessage | None,
        session: ClientSession | None,
        now: int,
    ) -> None:
        barriers = self._server.collection("barriers")
        if barriers.find_one({"_id": barrier_id}, {"_id": 1}, session=session):
            raise InvalidMessage(field="id", expected="an id that no barrier has", got=str(UUID(barrier_id)))
        ids = self._messages.store(members, session=session, now=now, namespace=self._namespace, barrier_id=barrier_id)
        if not members and callback:
            self._messages.store([callback], session=session, now=now, namespace=self._namespace)
        barrier: Document = {
            "_id": barrier_id,
            "namespace": self._namespace,
            "state": (BarrierState.OPEN if members else BarrierState.DONE).value,
            "member_ids": hexes(ids),
            "remaining": len(members),
            "callback": callback and encode_json(pack(callback)),
            "on_abort": on_abort and encode_json(pack(on_abort)),
            "callback_id": callback and callback.id and callback.id.hex,
            "culprit_id": None,
            "created_at": now,
            "ended_at": None if members else now,
        }
        barriers.insert_one(barrier, session=session)

    def _follow_up(
        self, barrier: Document, text: str | None, session: ClientSession | None, now: int
    ) -> list[tuple[str, str]]:
        following = [] if text is None else read_callback(text, barrier_id=barrier["_id"])
        namespace = barrier["namespace"]
        queues = self._messages.follow(following, session=session, now=now, namespace=namespace)
        return [(namespace, queue) for queue in queues]


def _identified(message: NewMessage | None) -> NewMessage | None:
    return message if message is None or message.id else replace(message, id=uuid7())


def _decoded(document: Document) -> Barrier:
    return Barrier(
        id=UUID(document["_id"]),
        member_ids=[UUID(one) for one in document["member_ids"]],
        remaining=document["remaining"],
        state=BarrierState(document["state"]),
        callback_id=_maybe_id(document["callback_id"]),
        culprit_id=_maybe_id(document["culprit_id"]),
        created_at=to_instant(document["created_at"]),
        ended_at=None if document["ended_at"] is None else to_instant(document["ended_at"]),
    )


def _maybe_id(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
