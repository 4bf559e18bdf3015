"""Mirrors brought into line with Beat's rows that were written elsewhere: in dcb's admin, by a project's own code.

While Beat fires a schedule its row is the primary one. `follow` makes the mirror say what it says; signals call it
after each save of a row, and the reconciliation for what no signal told of (`.update()`, bulk and raw SQL).

Rows that were not imported, and were not made here, are nobody's mirror and are left alone.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction

from scheduler import changes, clock, grid, ownership, transitions
from scheduler.beat import extras, links, mirror, reading, rows
from scheduler.beat.names import is_canary, is_made_here
from scheduler.domain import Firer, Hold, RunOrigin, RunState
from scheduler.errors import InvalidInput
from scheduler.models import PgPeriodicSchedule, ScheduleRun
from scheduler.models.ledger import keep
from scheduler.querysets import ScheduleQuerySet
from scheduler.settings import scheduler_settings

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

UNKNOWN_ORGANIZATION = "default"
"""Whose a schedule becomes of which nothing tells."""
_WHEN = ("kind", "cron_string", "timezone", "dialect", "starts_at")
_ORPHANED = "schedule.orphaned", "Celery Beat's row of this schedule was deleted elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What was brought into line."""

    row: PgPeriodicSchedule
    """As it is stored now."""
    details: dict[str, Any] = field(default_factory=dict)
    """By column, what the mirror said and what it says now; and notes. Empty: nothing had to be done."""
    unreadable: InvalidInput | None = None
    """What Beat's row says and no schedule here can hold: that part is not followed."""


def find_schedule(task: PeriodicTask) -> UUID | None:
    """The id of the schedule that is, or should be, the mirror of Beat's row; None: it is nobody's."""
    if is_canary(task.name):
        return None
    found = _rows().filter(beat_name=task.name).values_list("pk", flat=True).first()
    if found is not None:
        return found
    if is_made_here(task.name):
        return UUID(task.name)
    link = links.of_task(task)
    return None if link is None else link.schedule_id


def follow(schedule_id: UUID) -> Followed | None:
    """Make the mirror say what Beat's row says, new where it is missing. Joins the caller's transaction.

    A schedule whose organization nothing tells becomes one of `UNKNOWN_ORGANIZATION`. None: PG fires it, so Beat's row
    has nothing to say.

    Raises:
        ScheduleNotFound: Beat's row is gone.
        InvalidInput: the mirror is missing, and no schedule can hold what Beat's row says.
        Exception: why the mirror cannot be read or written.
    """
    renamed = _follow_name(schedule_id)
    stored = _hold_both(schedule_id)
    held = ownership.hold(schedule_id)
    if held.row.firer != Firer.BEAT:
        return None
    if held.mirror_error is not None:
        raise held.mirror_error
    task = rows.lock(held.row.beat_name)
    assert task is not None
    now = clock.now(_alias())
    details = _save_new(held.row, now) if stored is None else _save_changes(held.row, stored, task, now)
    links.agree([links.Agreed(schedule_id, extras.extras_of(task))])
    mirror.mark_repaired(schedule_id)
    return Followed(row=held.row, details=renamed | details, unreadable=_unreadable(task))


def abandon(schedule_id: UUID, *, gone_since: datetime | None = None) -> PgPeriodicSchedule | None:
    """Delete the mirror of a row that Beat does not have any more. Joins the caller's transaction.

    The ledger says what has not been fired since `gone_since`, when the row was known to be gone; None: since just now.
    Returns the mirror; None: there is none, PG fires it, or Beat's row is there after all.
    """
    row = _rows().filter(pk=schedule_id, firer=Firer.BEAT.value).select_for_update().first()
    if row is None or rows.exists(row.beat_name):
        return None
    now = clock.now(_alias())
    left_out = transitions.end(row, now) or _unfired(row, gone_since or now, now)
    note = changes.note_event("delete", row, now)
    keep([one for one in (left_out, note) if one is not None], using=_alias())
    _rows().filter(pk=schedule_id).delete()
    mirror.mark_repaired(schedule_id)
    return row


def after_save(task: PeriodicTask) -> None:
    """Follow Beat's row, which somebody has just saved. Never raises: the save stands, and a failure is recorded."""
    schedule_id, error = mirror.read(lambda: find_schedule(task))
    if error is not None:
        mirror.note_unfollowed(task.name, error)
    elif schedule_id is not None:
        subject = mirror.Subject(schedule_id=schedule_id, beat_name=task.name, path="follow")
        mirror.follow(subject, lambda: _follow(schedule_id))


def after_delete(task: PeriodicTask) -> None:
    """Abandon the mirror of Beat's row once its deletion is committed, if no row has taken its name. Never raises."""
    name = task.name  # the instance may be changed until then
    try:
        transaction.on_commit(lambda: _after_delete(name), using=_alias(), robust=True)
    except Exception as error:  # noqa: BLE001  best effort: a transaction that was begun by hand has no such hook
        mirror.note_unfollowed(name, error)


def _follow(schedule_id: UUID) -> None:
    follow(schedule_id)


def _after_delete(name: str) -> None:
    found, error = mirror.read(lambda: _rows().filter(beat_name=name, firer=Firer.BEAT.value).first())
    if error is not None:
        mirror.note_unfollowed(name, error)
    elif found is not None:
        subject = mirror.Subject(schedule_id=found.pipeline_id, beat_name=name, path="delete")
        mirror.follow(subject, lambda: _abandon(found.pipeline_id))


def _abandon(schedule_id: UUID) -> None:
    abandon(schedule_id)


def _follow_name(schedule_id: UUID) -> dict[str, Any]:
    """Where Beat's row was renamed, go by its new name. Returns what is different, as `Followed.details` has it."""
    link = links.of_schedule(schedule_id)
    if link is None or link.beat_id is None:
        return {}
    name = rows.name_of(link.beat_id)
    if name is None or name == link.beat_name or rows.exists(link.beat_name):
        return {}
    rows.lock(name)
    row = _rows().filter(pk=schedule_id, firer=Firer.BEAT.value).exclude(beat_name=name).select_for_update().first()
    details = {} if row is None else _rename(row, name)
    links.rename(schedule_id, name)
    return details


def _rename(row: PgPeriodicSchedule, name: str) -> dict[str, Any]:
    """Beat's name of it; and ours, if that was the same, as it is of one that was imported."""
    before, now = copy.copy(row), clock.now(_alias())
    details = {"beat_name": [row.beat_name, name]}
    if row.pipeline_name == row.beat_name:
        details["name"] = [row.pipeline_name, name]
        row.pipeline_name = name
    row.beat_name, row.updated_at = name, now
    row.save(using=_alias(), update_fields=("beat_name", "pipeline_name", "updated_at"))
    note = changes.note_change("update", before, row, now)
    keep([note] if note else [], using=_alias())
    return details


def _hold_both(schedule_id: UUID) -> PgPeriodicSchedule | None:
    """Hold Beat's row and then the mirror, in the order of every change, so that no tick advances it meanwhile."""
    stored = _rows().filter(pk=schedule_id).first()
    if stored is None or stored.firer != Firer.BEAT:
        return stored
    rows.lock(stored.beat_name)
    return _rows().filter(pk=schedule_id).select_for_update().first()


def _save_new(row: PgPeriodicSchedule, now: datetime) -> dict[str, Any]:
    details: dict[str, Any] = {"mirror": [None, row.pipeline_name]}
    if not row.organization_id:
        row.organization_id = UNKNOWN_ORGANIZATION
        details["note"] = f"its organization is not known: it became one of {UNKNOWN_ORGANIZATION!r}"
    row.updated_at = now
    row.save(using=_alias(), force_insert=True)
    keep([changes.note_event("create", row, now)], using=_alias())
    changes.wake_leader(row.pipeline_id)
    return details


def _save_changes(
    row: PgPeriodicSchedule, stored: PgPeriodicSchedule, task: PeriodicTask, now: datetime
) -> dict[str, Any]:
    """Write what is different, and only that. Returns it, of what people set under the field's public name."""
    _settle(row, stored, now)
    columns = [column for column in _columns() if not reading.is_same(getattr(stored, column), getattr(row, column))]
    if not columns:
        return {}
    row.updated_at = now
    row.save(using=_alias(), update_fields={*columns, "updated_at"})
    note = changes.note_change("update", stored, row, now)
    resumed_at = _resumed_at(stored, task, now) if row.enabled and not stored.enabled else None
    left_out = transitions.end(stored, resumed_at) if resumed_at else None
    keep([one for one in (left_out, note) if one is not None], using=_alias())
    changes.wake_leader(row.pipeline_id)
    if note is not None:
        fields: dict[str, Any] = note.fields
        return fields
    return {column: [str(getattr(stored, column)), str(getattr(row, column))] for column in columns}


def _settle(row: PgPeriodicSchedule, stored: PgPeriodicSchedule, now: datetime) -> None:
    """What follows from what Beat's row says: a cadence that is new starts anew, and nothing is due in the past."""
    if any(getattr(row, name) != getattr(stored, name) for name in _WHEN):
        row.quarantined_at, row.quarantine_error = None, ""
        row.hold = None if row.hold == Hold.OVERLAP else row.hold
        row.run_count = row.run_count if row.run_limit == 1 else 0
    if row.enabled and row.next_run_at != stored.next_run_at:  # as it was to be written when that failed
        with suppress(InvalidInput):
            row.next_run_at = grid.next_run_at(row, now) if row.next_run_at else None


def _resumed_at(stored: PgPeriodicSchedule, task: PeriodicTask, now: datetime) -> datetime:
    """When Beat's row was enabled, as far as it tells."""
    is_told = stored.paused_at is not None and stored.paused_at < task.date_changed
    return min(now, task.date_changed) if is_told else now


def _unfired(row: PgPeriodicSchedule, since: datetime, now: datetime) -> ScheduleRun | None:
    """What nobody fired after `since`, as a ledger row."""
    try:
        first = grid.next_run_at(row, since) if row.enabled else None
    except InvalidInput:
        return None
    ahead = copy.copy(row)
    ahead.next_run_at = first
    stretch = grid.unfired(ahead, now)
    if stretch is None:
        return None
    return ScheduleRun(
        schedule_id=row.pipeline_id,
        organization_id=row.organization_id,
        scheduled_for=stretch.first,
        span_end=stretch.latest if stretch.latest > stretch.first else None,
        occurrences=stretch.occurrences,
        origin=RunOrigin.SCHEDULE.value,
        firer=row.firer,
        state=RunState.EXPIRED.value,
        error=dict(zip(("type", "message", "traceback"), (*_ORPHANED, ""), strict=True)),
        recorded_at=now,
    )


def _unreadable(task: PeriodicTask) -> InvalidInput | None:
    try:
        reading.check(task)
    except InvalidInput as error:
        return error
    return None


def _columns() -> list[str]:
    return [field.attname for field in PgPeriodicSchedule._meta.concrete_fields if field.attname != "updated_at"]


def _rows() -> ScheduleQuerySet:
    return PgPeriodicSchedule.objects.using(_alias())


def _alias() -> str:
    return scheduler_settings().database
