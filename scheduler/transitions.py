"""How a person's action changes a row: edit, pause, resume. Pure: the row is changed, nothing is stored.

Each returns the stretch of occurrences that the change leaves unfired, as a ledger row to store with it, or None. An
edit and a resume lift a quarantine, because they check the row first.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from scheduler import grid, validation
from scheduler.domain import Firer, RunOrigin, RunState
from scheduler.errors import InvalidInput
from scheduler.models import PgPeriodicSchedule, ScheduleRun

_CADENCE = ("kind", "cron_string", "timezone", "dialect", "starts_at")
_EDITED = "schedule.edited", "the schedule was edited before this could be fired"
_PAUSED = "schedule.paused", "the schedule was paused before this could be fired"
_DELETED = "schedule.deleted", "the schedule was deleted before this could be fired"
_QUARANTINED = "schedule.quarantined", "the schedule could not be evaluated until it was corrected"


def begin(row: PgPeriodicSchedule, now: datetime) -> None:
    """Make a new row ready: its first occurrence is its first match after `now`."""
    row.next_run_at = grid.first_run_at(row, now)
    row.created_at = row.updated_at = now
    row.paused_at = None if row.enabled else now


def edit(row: PgPeriodicSchedule, cleaned: Mapping[str, Any], now: datetime) -> ScheduleRun | None:
    """Set cleaned values. `next_run_at` moves only when the cadence, the start, the end or a quarantine changes.

    `enabled` among the values pauses or resumes; a `firer` other than the row's is refused.

    Raises:
        InvalidInput: the row would not be valid, or the firer would change.
    """
    _refuse_other_firer(row, cleaned)
    before = copy.copy(row)
    settable = {field: value for field, value in cleaned.items() if field not in {"enabled", "firer", "pause_note"}}
    validation.fill(row, settable)
    left_out = _move(row, before, now)
    switched = _switch(row, cleaned, now)
    return left_out or switched


def pause(row: PgPeriodicSchedule, note: str, now: datetime) -> ScheduleRun | None:
    """Hold every occurrence from now on. What is overdue by now was not paused: it is left out for a reason of its own.

    `next_run_at` then stays, so that `resume` can tell what was missed. Pausing again changes the note alone. A row
    that cannot be evaluated can be paused, too: its whole stretch is left to `resume`.
    """
    left_out = None
    if row.enabled:
        left_out = _settle_overdue(row, now)
        row.enabled, row.paused_at = False, now
    row.pause_note = note
    return left_out


def resume(row: PgPeriodicSchedule, now: datetime) -> ScheduleRun | None:
    """Go on at the next occurrence after `now`; what was missed is left out. A row that is not held is unchanged.

    Raises:
        InvalidInput: the row cannot be evaluated; edit it.
    """
    if row.enabled and row.quarantined_at is None:
        return None
    left_out = _left_out(row, now, _QUARANTINED)
    validation.check(row)
    row.next_run_at = grid.next_run_at(row, now)
    row.enabled, row.paused_at, row.pause_note = True, None, ""
    _lift_quarantine(row)
    return left_out


def end(row: PgPeriodicSchedule, now: datetime) -> ScheduleRun | None:
    """What a deletion leaves unfired, as a ledger row to store with it."""
    return _left_out(row, now, _DELETED)


def is_same_cadence(row: PgPeriodicSchedule, other: PgPeriodicSchedule) -> bool:
    """Whether both have the same expression, kind, timezone, dialect and start."""
    return all(getattr(row, name) == getattr(other, name) for name in _CADENCE)


def _move(row: PgPeriodicSchedule, before: PgPeriodicSchedule, now: datetime) -> ScheduleRun | None:
    if before.quarantined_at is None and is_same_cadence(row, before):
        _move_to_end(row, before, now)
        return None
    left_out = _left_out(before, now, _EDITED if before.quarantined_at is None else _QUARANTINED)
    row.next_run_at = grid.first_run_at(row, now)
    _lift_quarantine(row)
    return left_out


def _move_to_end(row: PgPeriodicSchedule, before: PgPeriodicSchedule, now: datetime) -> None:
    """A new end may cut off the next occurrence, or give an ended schedule one again."""
    if row.ends_at == before.ends_at:
        return
    if row.next_run_at is None:
        row.next_run_at = grid.first_run_at(row, now)
    elif row.ends_at is not None and row.next_run_at >= row.ends_at:
        row.next_run_at = None


def _switch(row: PgPeriodicSchedule, cleaned: Mapping[str, Any], now: datetime) -> ScheduleRun | None:
    if cleaned.get("enabled") is True:
        return resume(row, now)
    if cleaned.get("enabled") is False:
        return pause(row, cleaned.get("pause_note", row.pause_note), now)
    if "pause_note" in cleaned:
        row.pause_note = cleaned["pause_note"]
    return None


def _refuse_other_firer(row: PgPeriodicSchedule, cleaned: Mapping[str, Any]) -> None:
    if cleaned.get("firer", row.firer) != row.firer:
        expected = f"{row.firer!r}, the schedule's own (an edit cannot hand a schedule over to another firer)"
        raise InvalidInput(field="firer", expected=expected, got=cleaned["firer"])


def _lift_quarantine(row: PgPeriodicSchedule) -> None:
    row.quarantined_at, row.quarantine_error = None, ""


def _settle_overdue(row: PgPeriodicSchedule, now: datetime) -> ScheduleRun | None:
    try:
        next_run_at = grid.next_run_at(row, now)
    except InvalidInput:
        return None
    left_out = _left_out(row, now, _PAUSED if row.quarantined_at is None else _QUARANTINED)
    row.next_run_at = next_run_at
    return left_out


def _left_out(row: PgPeriodicSchedule, now: datetime, reason: tuple[str, str]) -> ScheduleRun | None:
    """The overdue stretch as a ledger row: `paused`, or `expired` for the reason given.

    While Beat fires, only what was paused is known to be unfired. A row in quarantine was there before it was paused:
    the tick does not look at paused ones.
    """
    stretch = grid.unfired(row, now)
    if stretch is None or (row.firer == Firer.BEAT and row.enabled):
        return None
    is_paused = not row.enabled and row.quarantined_at is None
    return ScheduleRun(
        schedule_id=row.pipeline_id,
        organization_id=row.organization_id,
        scheduled_for=stretch.first,
        span_end=stretch.latest if stretch.latest > stretch.first else None,
        occurrences=stretch.occurrences,
        origin=RunOrigin.SCHEDULE.value,
        firer=row.firer,
        state=(RunState.PAUSED if is_paused else RunState.EXPIRED).value,
        error=None if is_paused else dict(zip(("type", "message", "traceback"), (*reason, ""), strict=True)),
        recorded_at=now,
    )
