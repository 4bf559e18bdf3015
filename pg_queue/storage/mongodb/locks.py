"""Named locks."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from pg_queue.storage.instants import microseconds
from pg_queue.storage.mongodb.server import Document, Server

SWEPT = 10
"""Most expired locks that one acquisition deletes, so that they do not pile up."""


class MongoLocks:
    """Implements `pg_queue.ports.Locks`. Each call is an update of one document."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server, self._namespace = server, namespace

    def acquire(self, name: str, *, ttl: timedelta) -> UUID | None:
        """See the port."""
        from pymongo.errors import DuplicateKeyError

        owner = uuid4()
        with self._server.errors():
            now, locks = self._server.now(), self._server.collection("locks")
            expired = [one["_id"] for one in locks.find({"expires_at": {"$lte": now}}, {"_id": 1}).limit(SWEPT)]
            if expired:
                locks.delete_many({"_id": {"$in": expired}, "expires_at": {"$lte": now}})
            free = {"_id": self._id(name), "expires_at": {"$lte": now}}
            held = {"owner": owner.hex, "expires_at": now + microseconds(ttl)}
            try:
                locks.update_one(free, {"$set": held}, upsert=True)
            except DuplicateKeyError:  # it is there, and has not expired
                return None
        return owner

    def extend(self, name: str, owner: UUID, *, ttl: timedelta) -> bool:
        """See the port."""
        with self._server.errors():
            now = self._server.now()
            held = {"$set": {"expires_at": now + microseconds(ttl)}}
            return self._server.collection("locks").update_one(self._held(name, owner, now), held).matched_count > 0

    def release(self, name: str, owner: UUID) -> bool:
        """See the port."""
        with self._server.errors():
            now = self._server.now()
            return self._server.collection("locks").delete_one(self._held(name, owner, now)).deleted_count > 0

    def _held(self, name: str, owner: UUID, now: int) -> Document:
        return {"_id": self._id(name), "owner": owner.hex, "expires_at": {"$gt": now}}

    def _id(self, name: str) -> str:
        return f"{self._namespace}|{name}"
