"""The workers on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pg_queue.domain import Json, WorkerView
from pg_queue.storage.instants import microseconds, to_instant
from pg_queue.storage.mongodb.server import Document, Server


class MongoWorkers:
    """Implements `pg_queue.ports.Workers`."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server, self._namespace = server, namespace

    def announce(self, worker_id: str, *, host: str, process_id: int, queues: Sequence[str], concurrency: int) -> None:
        """See the port."""
        with self._server.errors():
            now = self._server.now()
            worker: Document = {
                "namespace": self._namespace,
                "host": host,
                "process_id": process_id,
                "queues": list(queues),
                "concurrency": concurrency,
                "started_at": now,
                "heartbeat_at": now,
                "stopped_at": None,
                "running": 0,
                "finished": 0,
                "failed": 0,
            }
            self._server.collection("workers").replace_one({"_id": worker_id}, worker, upsert=True)

    def beat(
        self, worker_id: str, *, running: int, finished: int, failed: int, statistics: Mapping[str, Json] | None = None
    ) -> bool:
        """See the port."""
        said: Document = {} if statistics is None else {"statistics": dict(statistics)}
        return self._update(worker_id, is_last=False, running=running, finished=finished, failed=failed, **said)

    def sign_off(self, worker_id: str, *, finished: int, failed: int) -> None:
        """See the port."""
        self._update(worker_id, is_last=True, running=0, finished=finished, failed=failed)

    def forget(self, *, older_than: timedelta, limit: int) -> int:
        """See the port. Of all namespaces."""
        with self._server.errors():
            workers = self._server.collection("workers")
            gone = {"heartbeat_at": {"$lt": self._server.now() - microseconds(older_than)}}
            ids = [one["_id"] for one in workers.find(gone, {"_id": 1}).sort([("heartbeat_at", 1)]).limit(limit)]
            return workers.delete_many({"_id": {"$in": ids}, **gone}).deleted_count if ids else 0

    def list(self) -> list[WorkerView]:
        """See the port."""
        with self._server.errors():
            found = self._server.collection("workers").find({"namespace": self._namespace})
            now = self._server.now()
            return [_decoded(one, now) for one in found.sort([("heartbeat_at", -1)])]

    def _update(self, worker_id: str, *, is_last: bool, **figures: Any) -> bool:
        with self._server.errors():
            now = self._server.now()
            change: Document = {"heartbeat_at": now, **figures} | ({"stopped_at": now} if is_last else {})
            where = {"_id": worker_id, "namespace": self._namespace}
            return self._server.collection("workers").update_one(where, {"$set": change}).matched_count > 0


def _decoded(document: Document, now: int) -> WorkerView:
    fields = {name: document[name] for name in WorkerView.__dataclass_fields__ if name in document}
    instants = {
        name: to_instant(document[name])
        for name in ("started_at", "heartbeat_at", "stopped_at")
        if document[name] is not None
    }
    silent = (now - document["heartbeat_at"]) / 1e6
    return WorkerView(**(fields | instants | {"id": document["_id"], "silent_seconds": silent}))
