"""What each choke point does about a change, in its transaction: a note of who changed what, a word to the leader."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections

from scheduler.actor import current_actor
from scheduler.dialect import is_sqlite
from scheduler.models import PgPeriodicSchedule, ScheduleChange
from scheduler.settings import scheduler_settings
from scheduler.statements import statements
from scheduler.validation import COLUMNS, FIELDS


def note_change(
    action: str, before: PgPeriodicSchedule, after: PgPeriodicSchedule, now: datetime
) -> ScheduleChange | None:
    """The note of a change, not stored; None: nothing of what people set is different."""
    fields = {field: [old, new] for field in FIELDS if (old := _plain(before, field)) != (new := _plain(after, field))}
    return _note(action, after, now, fields) if fields else None


def note_event(action: str, row: PgPeriodicSchedule, now: datetime) -> ScheduleChange:
    """The note of a creation or a deletion, not stored."""
    return _note(action, row, now, {})


def wake_leader(schedule_id: UUID) -> None:
    """Tell the leader, when the caller's transaction commits, to look at the schedule. On SQLite it sees the commit."""
    if is_sqlite():
        return
    with connections[scheduler_settings().database].cursor() as cursor:
        cursor.execute(statements("schedules")["wake_scheduler"], {"schedule_id": str(schedule_id)})


def _note(action: str, row: PgPeriodicSchedule, now: datetime, fields: dict[str, Any]) -> ScheduleChange:
    return ScheduleChange(
        schedule_id=row.pipeline_id, changed_at=now, action=action, actor=current_actor(), fields=fields
    )


def _plain(row: PgPeriodicSchedule, field: str) -> Any:
    value = getattr(row, COLUMNS.get(field, field))
    return value.isoformat() if isinstance(value, datetime) else value
