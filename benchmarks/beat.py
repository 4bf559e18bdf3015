"""`python -m benchmarks.beat N SECONDS`: what Celery Beat's DatabaseScheduler dispatches, N crontabs due together.

A real scheduler on real rows; only the send itself is left out, which favours Beat. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")
django.setup()

from django.utils import timezone  # noqa: E402
from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks  # noqa: E402
from django_celery_beat.schedulers import DatabaseScheduler  # noqa: E402

from backend.celery import app  # noqa: E402


class CountingScheduler(DatabaseScheduler):
    """Dispatches to nowhere."""

    dispatched = 0

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **options: Any) -> None:
        """What Celery's own does around the send."""
        if advance:
            self.reserve(entry)
        self.dispatched += 1
        self._tasks_since_sync += 1
        if self.should_sync():
            self._do_sync()

    @property
    def producer(self) -> None:
        """No broker."""
        return


def fill(count: int) -> None:
    """Replace Beat's rows by `count` tasks of every minute that last ran ten minutes ago."""
    PeriodicTask.objects.all()._raw_delete("default")  # without a signal, and two queries, for each
    every_minute = CrontabSchedule.objects.create(minute="*", timezone="UTC")
    last_run_at = timezone.now() - timedelta(minutes=10)
    PeriodicTask.objects.bulk_create(
        [
            PeriodicTask(name=f"task {number}", task="noop", crontab=every_minute, last_run_at=last_run_at)
            for number in range(count)
        ],
        batch_size=5000,
    )
    PeriodicTasks.update_changed()


def measure(count: int, seconds: float) -> dict[str, float]:
    """Dispatches per second, until all were dispatched or the time is over; loading the schedule is not counted."""
    fill(count)
    scheduler = CountingScheduler(app)
    while not scheduler.dispatched:
        scheduler.tick()
    before, began = scheduler.dispatched, time.perf_counter()
    while scheduler.dispatched < count and time.perf_counter() - began < seconds:
        scheduler.tick()
    elapsed = time.perf_counter() - began
    dispatched = scheduler.dispatched - before
    PeriodicTask.objects.all()._raw_delete("default")  # without a signal, and two queries, for each
    return {"schedules": count, "dispatched": dispatched, "seconds": elapsed, "per_second": dispatched / elapsed}


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), float(sys.argv[2]))))
