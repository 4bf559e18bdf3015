"""An entry that is planted in Beat's table together with a change: whoever sends it has loaded the change.

A running Beat goes on by what it has loaded. It sends a canary as soon as it has loaded it, so what it sent before
that, by the same journal, is all that it will ever have sent by what it knew before. It is an interval of a year whose
last run lies longer ago: it is due once. (A one-off would be written back by Beat after we have removed it.)

All of it joins the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from uuid import uuid4

from django.utils.timezone import now

from scheduler import beat
from scheduler.beat import rows
from scheduler.beat.names import CANARY_PREFIX
from scheduler.settings import scheduler_settings

TASK = "celery.accumulate"
"""Celery's own, which every worker knows: without arguments it does nothing."""
_DAYS = 365
_EXPIRE_SECONDS = 60
"""A worker that comes to it later leaves it out."""


def new_name() -> str:
    """A name for a canary, like no other."""
    return f"{CANARY_PREFIX}{uuid4()}"


def plant(name: str) -> None:
    """Plant it, anew where it is there already, and have Beat see it."""
    from django_celery_beat.models import PeriodicTask

    rows.remove(name)
    canary = PeriodicTask(
        name=name,
        task=TASK,
        interval=rows.shared_row("IntervalSchedule", {"every": _DAYS, "period": "days"}),
        last_run_at=now() - timedelta(days=2 * _DAYS),
        expire_seconds=_EXPIRE_SECONDS,
        description="Of a hand-over that is under way; it is removed with its end.",
    )
    canary.no_changes = True
    canary.save(using=scheduler_settings().database)
    rows.announce()


def names() -> list[str]:
    """The names of those that are there."""
    return rows.names(prefix=CANARY_PREFIX) if beat.is_installed() else []


def remove(unwanted: Collection[str]) -> int:
    """Remove canaries, and have Beat see it; how many were there."""
    return sum(rows.remove(name) for name in sorted(unwanted))
