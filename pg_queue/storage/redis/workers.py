"""The workers on record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta

from pg_queue.domain import Json, WorkerView
from pg_queue.storage.instants import microseconds, to_instant
from pg_queue.storage.redis.encoding import UNREADABLE, Row
from pg_queue.storage.redis.server import Server


class RedisWorkers:
    """Implements `pg_queue.ports.Workers`."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server, self._namespace = server, namespace

    def announce(self, worker_id: str, *, host: str, process_id: int, queues: Sequence[str], concurrency: int) -> None:
        """See the port."""
        self._server.run(
            "workers",
            "announce",
            namespace=self._namespace,
            id=worker_id,
            host=host,
            process_id=process_id,
            queues=json.dumps(list(queues)),
            concurrency=concurrency,
        )

    def beat(
        self, worker_id: str, *, running: int, finished: int, failed: int, statistics: Mapping[str, Json] | None = None
    ) -> bool:
        """See the port."""
        said = {} if statistics is None else {"statistics": json.dumps(dict(statistics))}
        return self._beat(worker_id, is_last=False, running=running, finished=finished, failed=failed, **said)

    def sign_off(self, worker_id: str, *, finished: int, failed: int) -> None:
        """See the port."""
        self._beat(worker_id, is_last=True, running=0, finished=finished, failed=failed)

    def forget(self, *, older_than: timedelta, limit: int) -> int:
        """See the port."""
        return int(self._server.run("workers", "forget", age=microseconds(older_than), limit=limit))

    def list(self) -> Sequence[WorkerView]:
        """See the port."""
        views = []
        for row in self._server.run("workers", "list", namespace=self._namespace):
            try:
                views.append(_decode(row))
            except UNREADABLE:  # what no operation has written is left alone
                continue
        return views

    def _beat(self, worker_id: str, *, is_last: bool, **figures: int | str) -> bool:
        request = {"namespace": self._namespace, "id": worker_id, "is_last": is_last, **figures}
        return bool(self._server.run("workers", "beat", **request))


def _decode(row: Row) -> WorkerView:
    id, host, process_id, queues, concurrency, started_at, heartbeat_at, stopped_at, *figures, statistics, now = row
    running, finished, failed = figures
    return WorkerView(
        id=id,
        host=host,
        process_id=int(process_id),
        queues=list(json.loads(queues)),
        concurrency=int(concurrency),
        started_at=to_instant(started_at),
        heartbeat_at=to_instant(heartbeat_at),
        stopped_at=to_instant(stopped_at) if stopped_at else None,
        running=int(running),
        finished=int(finished),
        failed=int(failed),
        statistics=dict(json.loads(statistics)),
        silent_seconds=(int(now) - int(heartbeat_at)) / 1e6,
    )
