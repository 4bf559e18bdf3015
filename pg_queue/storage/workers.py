"""The workers' rows in a Django database. Not on the hot path, so by the ORM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from pg_queue.domain import Json, WorkerView
from pg_queue.models import Worker

_SHOWN = [name for name in WorkerView.__dataclass_fields__ if name != "silent_seconds"]


class DatabaseWorkers:
    """Implements `pg_queue.ports.Workers`."""

    def __init__(self, alias: str, namespace: str) -> None:
        self._alias, self._namespace = alias, namespace

    def announce(self, worker_id: str, *, host: str, process_id: int, queues: Sequence[str], concurrency: int) -> None:
        """See the port."""
        Worker.objects.using(self._alias).create(
            id=worker_id,
            namespace=self._namespace,
            host=host,
            process_id=process_id,
            queues=list(queues),
            concurrency=concurrency,
        )

    def beat(
        self, worker_id: str, *, running: int, finished: int, failed: int, statistics: Mapping[str, Json] | None = None
    ) -> bool:
        """See the port."""
        said = {} if statistics is None else {"statistics": dict(statistics)}
        row = self._rows().filter(pk=worker_id)
        return row.update(heartbeat_at=Now(), running=running, finished=finished, failed=failed, **said) > 0

    def sign_off(self, worker_id: str, *, finished: int, failed: int) -> None:
        """See the port."""
        row = self._rows().filter(pk=worker_id)
        row.update(heartbeat_at=Now(), stopped_at=Now(), running=0, finished=finished, failed=failed)

    def forget(self, *, older_than: timedelta, limit: int) -> int:
        """See the port. Of all namespaces."""
        rows = Worker.objects.using(self._alias)
        gone = rows.filter(heartbeat_at__lt=Now() - older_than).order_by("heartbeat_at")
        return rows.filter(pk__in=list(gone.values_list("pk", flat=True)[:limit])).delete()[0]

    def list(self) -> Sequence[WorkerView]:
        """See the port."""
        rows = self._rows().order_by("-heartbeat_at").annotate(now=Now()).values("now", *_SHOWN)
        return [_view(**row) for row in rows]

    def _rows(self) -> QuerySet[Worker]:
        return Worker.objects.using(self._alias).filter(namespace=self._namespace)


def _view(now: datetime, heartbeat_at: datetime, **fields: Any) -> WorkerView:
    silent = (now - heartbeat_at).total_seconds()
    return WorkerView(heartbeat_at=heartbeat_at, silent_seconds=silent, **fields)
