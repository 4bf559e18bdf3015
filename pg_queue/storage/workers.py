"""The workers' rows: who is there, and how they fare. Not on the hot path, so by the ORM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models.functions import Now

from pg_queue.models import Worker
from pg_queue.settings import queue_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A worker as its row shows it."""

    id: str
    """host:pid:start, unique for ever."""
    host: str
    process_id: int
    queues: list[str]
    concurrency: int
    started_at: datetime
    heartbeat_at: datetime
    stopped_at: datetime | None
    """When it stopped in good order; None: it works, or it vanished."""
    running: int
    finished: int
    failed: int


def workers() -> list[WorkerView]:
    """All workers on record, the last heard of first; also those that stopped or vanished, until they are forgotten."""
    rows = Worker.objects.using(_alias()).order_by("-heartbeat_at").values()
    return [WorkerView(**row) for row in rows]


def announce(worker_id: str, *, host: str, process_id: int, queues: Sequence[str], concurrency: int) -> None:
    """Write the row of a worker that has just started."""
    Worker.objects.using(_alias()).create(
        id=worker_id, host=host, process_id=process_id, queues=list(queues), concurrency=concurrency
    )


def beat(worker_id: str, *, running: int, finished: int, failed: int) -> bool:
    """Say that the worker is alive, with its figures since its start. False: there is no such row (any more)."""
    row = Worker.objects.using(_alias()).filter(pk=worker_id)
    return row.update(heartbeat_at=Now(), running=running, finished=finished, failed=failed) > 0


def sign_off(worker_id: str, *, finished: int, failed: int) -> None:
    """Mark the worker as stopped in good order."""
    row = Worker.objects.using(_alias()).filter(pk=worker_id)
    row.update(heartbeat_at=Now(), stopped_at=Now(), running=0, finished=finished, failed=failed)


def forget(*, older_than: timedelta, limit: int) -> int:
    """Delete at most `limit` rows without a heartbeat for that long; return how many."""
    rows = Worker.objects.using(_alias())
    gone = rows.filter(heartbeat_at__lt=Now() - older_than).order_by("heartbeat_at").values_list("pk", flat=True)
    return rows.filter(pk__in=list(gone[:limit])).delete()[0]


def _alias() -> str:
    return queue_settings().database
