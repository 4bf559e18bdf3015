"""Queues turned off and on."""

from __future__ import annotations

from pg_queue.domain import Switch
from pg_queue.storage.instants import to_instant
from pg_queue.storage.mongodb.server import Document, Server


class MongoSwitches:
    """Implements `pg_queue.ports.Switches`."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server, self._namespace = server, namespace

    def turn(self, queue: str | None, *, is_on: bool, by: str, reason: str = "") -> Switch:
        """See the port."""
        name = queue or ""
        with self._server.errors():
            turned: Document = {
                "namespace": self._namespace,
                "queue": name,
                "is_on": is_on,
                "changed_at": self._server.now(),
                "changed_by": by,
                "reason": reason,
            }
            where = {"_id": f"{self._namespace}|{name}"}
            self._server.collection("switches").update_one(where, {"$set": turned}, upsert=True)
            if is_on:
                self._server.wake(self._namespace, [name] if name else self._queues())
        return _decoded(turned)

    def _queues(self) -> list[str]:
        """Every queue into which something was ever enqueued."""
        return [one["queue"] for one in self._server.collection("wakes").find({"namespace": self._namespace})]

    def list(self) -> list[Switch]:
        """See the port."""
        with self._server.errors():
            found = self._server.collection("switches").find({"namespace": self._namespace}).sort([("queue", 1)])
            return [_decoded(one) for one in found]


def _decoded(document: Document) -> Switch:
    return Switch(
        queue=document["queue"] or None,
        is_on=document["is_on"],
        changed_at=to_instant(document["changed_at"]),
        changed_by=document["changed_by"],
        reason=document["reason"],
    )
