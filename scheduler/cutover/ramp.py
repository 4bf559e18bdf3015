"""A rollout by percentage: what lies below it is handed over, and what it had handed over above it goes back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from scheduler.cutover.answers import Answer
from scheduler.cutover.choice import Choice, bucket_of
from scheduler.cutover.promotion import promote
from scheduler.cutover.returning import handed_over, roll_back
from scheduler.domain import Firer
from scheduler.models import PgPeriodicSchedule


def ramp(
    percent: float,
    *,
    organizations: Collection[str] | None = None,
    is_forced: bool = False,
    reason: str = "",
    is_beat_stopped: bool = False,
) -> list[Answer]:
    """Have PG fire so many per cent of the schedules of these organizations (None: of all); an answer for each changed.

    A schedule's place is always the same (`bucket_of`), so that a rollout grows and shrinks by whole schedules. Those
    that PG fires without ever having been handed over are left alone.

    Raises: as `promote` does, where there is something to hand over; as `roll_back` does.
    """
    chosen = Choice(organizations=organizations, percent=percent)
    rows = Choice(organizations=organizations).schedules()
    below = [row for row in rows if bucket_of(row.pk) < percent and row.firer == Firer.BEAT]
    above = [row for row in rows if bucket_of(row.pk) >= percent and row.firer == Firer.PG and row.beat_from is None]
    known = handed_over(above)
    answers = roll_back(_these([row for row in above if row.pk in known]), reason=reason)
    if below:
        these = replace(chosen, schedule_ids=tuple(row.pk for row in below))
        answers += promote(these, is_forced=is_forced, reason=reason, is_beat_stopped=is_beat_stopped)
    return answers


def _these(rows: list[PgPeriodicSchedule]) -> Choice:
    return Choice(schedule_ids=tuple(row.pk for row in rows))
