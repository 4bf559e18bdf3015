"""How a person's action changes a row: edit, pause, resume. Pure: the row is changed, nothing is stored.

Each returns the stretch of occurrences that the change leaves unfired, as a ledger row to store with it, or None. An
edit and a resume lift a quarantine, because they check the row first.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from scheduler import grid, validation
from scheduler.domain import CatchUp, Firer, Hold, RunOrigin, RunState, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.models import PgPeriodicSchedule, ScheduleRun

_SWITCHES = {"enabled", "firer", "pause_note", "paused_until"}
_CADENCE = ("kind", "cron_string", "timezone", "dialect", "starts_at")
_TICK = timedelta(microseconds=1)
_EDITED = "schedule.edited", "the schedule was edited before this could be fired"
_PAUSED = "schedule.paused", "the schedule was paused before this could be fired"
_DELETED = "schedule.deleted", "the schedule was deleted before this could be fired"
_OWED = "schedule.owed", "Celery Beat had not sent it, and the catch-up policy does not make up for it"
_QUARANTINED = "schedule.quarantined", "the schedule could not be evaluated until it was corrected"


def begin(row: PgPeriodicSchedule, now: datetime) -> None:
    """Make a new row ready: its first occurrence is its first match after `now`."""
    row.next_run_at = _first_run_at(row, now)
    row.created_at = row.updated_at = now
    row.paused_at = None if row.enabled else now
    if row.paused_until is not None and (row.enabled or row.paused_until <= now):
        expected = f"an instant after now ({now}), with enabled false"
        raise InvalidInput(field="paused_until", expected=expected, got=row.paused_until)


def edit(row: PgPeriodicSchedule, cleaned: Mapping[str, Any], now: datetime) -> ScheduleRun | None:
    """Set cleaned values. `next_run_at` moves only when the cadence, the start, the end or a quarantine changes.

    `enabled` among the values pauses or resumes; a `firer` other than the row's is refused.

    Raises:
        InvalidInput: the row would not be valid, or the firer would change.
    """
    _refuse_other_firer(row, cleaned)
    before = copy.copy(row)
    settable = {field: value for field, value in cleaned.items() if field not in _SWITCHES}
    validation.fill(row, settable)
    left_out = _move(row, before, now)
    switched = _switch(row, cleaned, now)
    return left_out or switched


def pause(row: PgPeriodicSchedule, note: str, now: datetime, until: datetime | None = None) -> ScheduleRun | None:
    """Hold every occurrence from now on. What is overdue by now was not paused: it is left out for a reason of its own.

    `next_run_at` then stays, so that `resume` can tell what was missed. Pausing again changes the note and the end
    alone. A row that cannot be evaluated can be paused, too: its whole stretch is left to `resume`.

    Raises:
        InvalidInput: field `paused_until`, where it is not ahead.
    """
    if until is not None and until <= now:
        raise InvalidInput(field="paused_until", expected=f"an instant after now ({now})", got=until)
    left_out = None
    if row.enabled:
        left_out = _settle_overdue(row, now)
        row.enabled, row.paused_at = False, now
    row.pause_note, row.paused_until = note, until
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
    row.enabled, row.paused_at, row.pause_note, row.paused_until = True, None, "", None
    row.failures_in_a_row = 0
    _release(row)
    _lift_quarantine(row)
    return left_out


def resume_on_time(row: PgPeriodicSchedule, now: datetime) -> ScheduleRun | None:
    """End a pause whose end has come, as if at that instant: an occurrence on it is fired. Else the row is unchanged.

    Raises: as `resume` does.
    """
    if row.enabled or row.paused_until is None or row.paused_until > now:
        return None
    return resume(row, row.paused_until - _TICK)


def pause_failing(row: PgPeriodicSchedule, now: datetime) -> ScheduleRun | None:
    """Pause a row of which so many runs have failed in a row as it bears; else it is unchanged."""
    if row.enabled and row.pause_after_failures and row.failures_in_a_row >= row.pause_after_failures:
        return pause(row, f"paused by itself: {row.failures_in_a_row} runs failed in a row", now)
    return None


def end(row: PgPeriodicSchedule, now: datetime) -> ScheduleRun | None:
    """What a deletion leaves unfired, as a ledger row to store with it."""
    return _left_out(row, now, _DELETED)


def leave_quarantine(row: PgPeriodicSchedule, now: datetime) -> ScheduleRun | None:
    """What a row in quarantine has left unfired by `now`, when another firer takes it over; None: it is in none."""
    return None if row.quarantined_at is None else _left_out(row, now, _QUARANTINED)


def leave_to_policy(row: PgPeriodicSchedule, begins: datetime | None, until: datetime) -> ScheduleRun | None:
    """What the catch-up policy leaves out of what is due at `until`, up to `begins`; None: nothing."""
    before = until if begins is None else min(until, begins - _TICK)
    left_out = _left_out(row, before, _OWED)
    if left_out is not None and row.catch_up == CatchUp.LATEST:
        left_out.state, left_out.error = RunState.COALESCED.value, None
    return left_out


def is_same_cadence(row: PgPeriodicSchedule, other: PgPeriodicSchedule) -> bool:
    """Whether both have the same expression, kind, timezone, dialect and start."""
    return all(getattr(row, name) == getattr(other, name) for name in _CADENCE)


def _move(row: PgPeriodicSchedule, before: PgPeriodicSchedule, now: datetime) -> ScheduleRun | None:
    if before.quarantined_at is None and is_same_cadence(row, before):
        _move_to_end(row, before, now)
        return None
    left_out = _left_out(before, now, _EDITED if before.quarantined_at is None else _QUARANTINED)
    row.run_count = 0
    _release(row)
    row.next_run_at = _first_run_at(row, now)
    _lift_quarantine(row)
    return left_out


def _first_run_at(row: PgPeriodicSchedule, now: datetime) -> datetime | None:
    found = grid.first_run_at(row, now)
    if found is None and row.kind == ScheduleKind.CLOCKED:
        raise InvalidInput(
            field="expression",
            expected=f"an instant after now ({now:%Y-%m-%dT%H:%M:%SZ}), within its start and end",
            got=row.cron_string,
        )
    return found


def _move_to_end(row: PgPeriodicSchedule, before: PgPeriodicSchedule, now: datetime) -> None:
    """A new end or limit may cut off the next occurrence, or give an ended schedule one again."""
    if (row.ends_at, row.run_limit) == (before.ends_at, before.run_limit):
        return
    if row.next_run_at is None:
        row.next_run_at = grid.first_run_at(row, now)
    elif grid.is_beyond_end(row, row.next_run_at):
        row.next_run_at = None


def _switch(row: PgPeriodicSchedule, cleaned: Mapping[str, Any], now: datetime) -> ScheduleRun | None:
    if cleaned.get("enabled") is True:
        return resume(row, now)
    if cleaned.get("enabled") is False or {"pause_note", "paused_until"} & cleaned.keys():
        note, until = (cleaned.get(field, getattr(row, field)) for field in ("pause_note", "paused_until"))
        return _note_pause(row, cleaned, note, until, now)
    return None


def _note_pause(
    row: PgPeriodicSchedule, cleaned: Mapping[str, Any], note: str, until: datetime | None, now: datetime
) -> ScheduleRun | None:
    if cleaned.get("enabled") is False or not row.enabled:
        return pause(row, note, now, until)
    if until is not None:
        raise InvalidInput(field="paused_until", expected="null, because the schedule is not paused", got=until)
    row.pause_note = note
    return None


def _refuse_other_firer(row: PgPeriodicSchedule, cleaned: Mapping[str, Any]) -> None:
    if cleaned.get("firer", row.firer) != row.firer:
        expected = f"{row.firer!r}, the schedule's own (an edit cannot hand a schedule over to another firer)"
        raise InvalidInput(field="firer", expected=expected, got=cleaned["firer"])


def _release(row: PgPeriodicSchedule) -> None:
    """Let the tick look at it again; what goes back to Beat it holds once more where that has come."""
    if row.hold == Hold.OVERLAP or (row.hold == Hold.HANDOVER and row.beat_from is not None):
        row.hold = None


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

    While Beat fires, only what was paused is known to be unfired, and a quarantine is the shadow's alone. PG's row in
    quarantine was there before it was paused: the tick does not look at paused ones.
    """
    stretch = grid.unfired(row, now)
    if stretch is None or (row.firer == Firer.BEAT and row.enabled):
        return None
    is_paused = not row.enabled and (row.quarantined_at is None or row.firer == Firer.BEAT)
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
