"""Buckets of tokens."""

from __future__ import annotations

from pg_queue.domain import Grant, RateLimit
from pg_queue.storage.instants import microseconds
from pg_queue.storage.mongodb.server import Server


class MongoLimits:
    """Implements `pg_queue.ports.Limits`. A change is one of the document as it was read, else it is read anew."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server, self._namespace = server, namespace

    def take(self, name: str, limit: RateLimit, *, wanted: int) -> Grant:
        """See the port."""
        while True:
            with self._server.errors():
                now = self._server.now()
                before = self._full_at(name)
                count, full_at = limit.spend(now if before is None else before, now=now, wanted=wanted)
                if not count or self._change(name, before, full_at):
                    return Grant(count=count, wait_seconds=limit.wait_seconds(full_at, now=now))

    def give_back(self, name: str, limit: RateLimit, *, count: int) -> None:
        """See the port."""
        given = microseconds(count * limit.interval_seconds)
        with self._server.errors():
            self._server.collection("limits").update_one({"_id": self._id(name)}, {"$inc": {"full_at": -given}})

    def _full_at(self, name: str) -> int | None:
        found = self._server.collection("limits").find_one({"_id": self._id(name)})
        return None if found is None else int(found["full_at"])

    def _change(self, name: str, before: int | None, full_at: int) -> bool:
        """False: somebody else has changed it since."""
        from pymongo.errors import DuplicateKeyError

        limits = self._server.collection("limits")
        if before is not None:
            where = {"_id": self._id(name), "full_at": before}
            return limits.update_one(where, {"$set": {"full_at": full_at}}).modified_count > 0
        try:
            limits.insert_one({"_id": self._id(name), "full_at": full_at})
        except DuplicateKeyError:
            return False
        return True

    def _id(self, name: str) -> str:
        return f"{self._namespace}|{name}"
