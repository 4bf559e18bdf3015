"""Which row of a schedule is the primary one, held until the transaction ends.

While PG fires a schedule its PG row is; while Beat fires it, Beat's row is, and the PG row is a mirror that may be
missing, stale, locked or unreadable. So what Beat's row says counts, and the mirror adds what that cannot say: the row
that was to be written last where the write was lost, else the one that is there. Beat's row alone must be enough,
unless PG might own the schedule: a change that only reached Beat's disabled row would be a lost one.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from scheduler import beat, clock, grid
from scheduler.beat import links, mirror, reading, rows
from scheduler.domain import Firer
from scheduler.errors import InvalidInput, ScheduleNotFound
from scheduler.models import PgPeriodicSchedule
from scheduler.querysets import ScheduleQuerySet
from scheduler.settings import scheduler_settings

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

_WHEN = ("kind", "cron_string", "timezone", "dialect", "starts_at", "ends_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A schedule whose primary row this transaction holds."""

    row: PgPeriodicSchedule
    """As stored; while Beat fires it, as Beat's row tells, and the mirror where that tells nothing."""
    mirror_error: Exception | None = None
    """Why the mirror could not be read; None: it could, or there is none."""


def hold(schedule_id: UUID, *, is_orphan_enough: bool = False) -> Held:
    """Hold the schedule's primary row. Joins the caller's transaction, which must be one.

    A schedule that the tick is just firing is waited for; the tick skips one that is held here. With
    `is_orphan_enough` a mirror row is held whose Beat row is gone, and be it that all of django-celery-beat is.

    Raises:
        ScheduleNotFound: there is no such schedule, or Beat's row of one that Beat fires is gone.
        BeatUnavailable: Beat fires it, and django-celery-beat is not installed.
    """
    while True:
        row, error = _read(schedule_id)
        if row is not None and row.firer == Firer.PG:
            held = _rows(schedule_id).select_for_update().filter(firer=Firer.PG.value).first()
            if held is not None:
                return Held(row=held)
        else:
            if row is not None and not is_orphan_enough:
                beat.require()
            held = _hold_beats(schedule_id, row, error)
            if held is None and is_orphan_enough:
                held = row
            if held is None:
                raise ScheduleNotFound(schedule_id)
            if held.firer == Firer.BEAT:
                return Held(row=held, mirror_error=error)


def _hold_beats(
    schedule_id: UUID, row: PgPeriodicSchedule | None, error: Exception | None
) -> PgPeriodicSchedule | None:
    """The schedule as it is once Beat's row is held; None: there is no such row. PG's own row where PG fires it now."""
    task = rows.lock(row.beat_name if row else _beat_name(schedule_id)) if beat.is_installed() else None
    if error is not None:
        if task is None or not (task.enabled or rows.is_paused_by_us(task)):
            raise error
        return _as_beat_says(schedule_id, task, None)
    if task is None:
        return None
    current, unread = _read(schedule_id)  # again: whoever held Beat's row before may have changed the mirror
    if current is not None and current.firer != Firer.BEAT:
        return current
    return _as_beat_says(schedule_id, task, current, is_missing=current is None and unread is None)


def _as_beat_says(
    schedule_id: UUID, task: PeriodicTask, mirrored: PgPeriodicSchedule | None, *, is_missing: bool = False
) -> PgPeriodicSchedule:
    """`is_missing`: there is no mirror; where it could only not be read, what is made up must not replace it later."""
    lost, _ = mirror.read(lambda: mirror.intended(schedule_id))
    row = lost or mirrored or reading.rebuild(task)
    row.pipeline_id, row.beat_name = schedule_id, task.name
    if is_missing and lost is None:
        _begin(row, task)
        return row
    before = copy.copy(row)
    reading.follow(row, task)
    with suppress(InvalidInput):  # what is stored means nothing: it stands where it stood until it is edited
        _place(row, before, task)
    return row


def _beat_name(schedule_id: UUID) -> str:
    """What Beat calls a schedule whose mirror is missing."""
    link, _ = mirror.read(lambda: links.of_schedule(schedule_id))
    return str(schedule_id) if link is None else link.beat_name


def _begin(row: PgPeriodicSchedule, task: PeriodicTask) -> None:
    """Make a row that is rebuilt from Beat's alone ready to be stored."""
    now = clock.now(scheduler_settings().database)
    link, _ = mirror.read(lambda: links.of_schedule(row.pipeline_id))
    row.organization_id = "" if link is None else link.organization_id
    row.run_count = _run_count(row, task)
    row.paused_at = None if row.enabled else _latest(task, now)
    row.next_run_at = grid.first_run_after_send(row, task.last_run_at, now)


def _run_count(row: PgPeriodicSchedule, task: PeriodicTask) -> int:
    """Beat counts anew when a one-off has run and is disabled: enabled again, it is sent again."""
    return min(task.total_run_count, 1) if row.run_limit == 1 else row.run_count


def _place(row: PgPeriodicSchedule, before: PgPeriodicSchedule, task: PeriodicTask) -> None:
    """Where the row stands among its occurrences, and since when it is paused, where Beat's row was changed elsewhere.

    Raises:
        InvalidInput: the row cannot be evaluated.
    """
    now = clock.now(scheduler_settings().database)
    is_moved = any(getattr(row, name) != getattr(before, name) for name in _WHEN)
    if row.enabled and (is_moved or not before.enabled):
        row.paused_at, row.pause_note, row.paused_until = None, "", None
        row.run_count = _run_count(row, task)
        row.next_run_at = grid.first_run_after_send(row, task.last_run_at, now)
    elif before.enabled and not row.enabled:
        row.paused_at = _latest(task, now)
        row.next_run_at = (grid.first_run_at if is_moved else grid.next_run_at)(row, row.paused_at)
    elif is_moved:
        row.next_run_at = grid.first_run_at(row, row.paused_at or now)


def _latest(task: PeriodicTask, now: datetime) -> datetime:
    """The last sign that Beat's row was in force: it was not disabled before that."""
    return min(now, max((at for at in (task.date_changed, task.last_run_at) if at is not None), default=now))


def _read(schedule_id: UUID) -> tuple[PgPeriodicSchedule | None, Exception | None]:
    return mirror.read(lambda: _rows(schedule_id).first())


def _rows(schedule_id: UUID) -> ScheduleQuerySet:
    return PgPeriodicSchedule.objects.using(scheduler_settings().database).filter(pk=schedule_id)
