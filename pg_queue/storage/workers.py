"""The workers' rows: who is there, and how they fare. Not on the hot path, so by the ORM."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db.models.functions import Now

from pg_queue.models import Worker
from pg_queue.settings import queue_settings


def announce(worker_id: str, *, host: str, process_id: int, queues: Sequence[str], concurrency: int) -> None:
    """Write the row of a worker that has just started."""
    Worker.objects.using(_alias()).create(
        id=worker_id, host=host, process_id=process_id, queues=list(queues), concurrency=concurrency
    )


def beat(worker_id: str, *, running: int, finished: int, failed: int) -> None:
    """Say that the worker is alive, with its figures since its start."""
    row = Worker.objects.using(_alias()).filter(pk=worker_id)
    row.update(heartbeat_at=Now(), running=running, finished=finished, failed=failed)


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
