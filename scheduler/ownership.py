"""Which row of a schedule is the primary one, held until the transaction ends.

While PG fires a schedule its PG row is; while Beat fires it, Beat's row is, and the PG row is a mirror that may be
missing, locked or unreadable. Then Beat's row alone must be enough, unless PG might own the schedule: a change that
only reached Beat's disabled row would be a lost one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from scheduler import beat
from scheduler.beat import mirror, rows
from scheduler.domain import Firer
from scheduler.errors import ScheduleNotFound
from scheduler.models import PgPeriodicSchedule
from scheduler.querysets import ScheduleQuerySet
from scheduler.settings import scheduler_settings

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A schedule whose primary row this transaction holds."""

    row: PgPeriodicSchedule
    """As stored; where the mirror is missing, as it was to be stored or as Beat's row tells."""
    mirror_error: Exception | None = None
    """Why the mirror could not be read; None: it could, or there is none."""


def hold(schedule_id: UUID, *, is_orphan_enough: bool = False) -> Held:
    """Hold the schedule's primary row. Joins the caller's transaction, which must be one.

    A schedule that the tick is just firing is waited for; the tick skips one that is held here. With
    `is_orphan_enough` a mirror row is held whose Beat row is gone.

    Raises:
        ScheduleNotFound: there is no such schedule, or Beat's row of one that Beat fires is gone.
        BeatUnavailable: Beat fires it, and django-celery-beat is not installed.
    """
    while True:
        row, error = _read(schedule_id)
        if row is not None and row.firer == Firer.PG:
            held = _rows(schedule_id).select_for_update().filter(firer=Firer.PG.value).first()
        else:
            held = _hold_beats(schedule_id, row, error)
            if held is None and is_orphan_enough:
                held = row
            if held is None:
                raise ScheduleNotFound(schedule_id)
        if held is not None and (row is None or held.firer == row.firer):
            return Held(row=held, mirror_error=error)


def _hold_beats(
    schedule_id: UUID, row: PgPeriodicSchedule | None, error: Exception | None
) -> PgPeriodicSchedule | None:
    """The schedule as it is once Beat's row is held; None: there is no such row."""
    if row is not None:
        beat.require()
    task = rows.lock(row.beat_name if row else str(schedule_id)) if beat.is_installed() else None
    if error is not None:
        if task is None or not (task.enabled or rows.is_paused_by_us(task)):
            raise error
        return _restore(schedule_id, task)
    if task is None:
        return None
    current, _ = _read(schedule_id)  # again: whoever held Beat's row before may have changed the mirror
    return current or _restore(schedule_id, task)


def _restore(schedule_id: UUID, task: PeriodicTask) -> PgPeriodicSchedule:
    remembered, _ = mirror.read(lambda: mirror.intended(schedule_id))
    restored = remembered or rows.rebuild(task)
    restored.pipeline_id = schedule_id
    restored.enabled = task.enabled
    return restored


def _read(schedule_id: UUID) -> tuple[PgPeriodicSchedule | None, Exception | None]:
    return mirror.read(lambda: _rows(schedule_id).first())


def _rows(schedule_id: UUID) -> ScheduleQuerySet:
    return PgPeriodicSchedule.objects.using(scheduler_settings().database).filter(pk=schedule_id)
