"""Where Celery Beat has stopped with a schedule, by what is recorded, and so where PG begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections

from scheduler import beat, grid
from scheduler.beat import rows
from scheduler.domain import HandoverMethod, ScheduleKind
from scheduler.models import Handover, PgPeriodicSchedule
from scheduler.querysets import BEAT_ALIVE
from scheduler.recurrence import period
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

LATE = timedelta(seconds=15)
"""How late Beat may be, and its sends on their way to the journal."""
UNRECORDED_SECONDS = 0.5
"""How long before its last sign of life a Beat that was killed may have sent what it did not record."""
_NOBODY = UUID(int=0)
"""Whose a send is that Beat counted and nobody recorded."""
_TICK = timedelta(microseconds=1)
_PLACED = ("kind", "cron_string", "timezone", "dialect", "starts_at", "ends_at", "run_limit", "run_count")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where PG begins."""

    first: datetime | None
    """The first occurrence that is PG's; None: none is left."""
    last: datetime | None
    """The last that Beat has sent."""
    sends: int
    """Occurrences that Beat has sent since the mirror stopped to follow."""
    unknown: Sequence[datetime]
    """Taken, because Beat may have sent them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A send of Beat's."""

    scheduled_for: datetime
    sent_at: datetime


def find(row: PgPeriodicSchedule, handover: Handover) -> Position:
    """Where PG begins with a schedule that it fires from now on; what Beat may have sent is taken.

    The row is held. Joins the caller's transaction. Raises: InvalidInput: the row cannot be evaluated.
    """
    last = last_send(row.pk)
    task = rows.lock(row.beat_name) if beat.is_installed() else None
    first = _first(row, handover, task, last)
    counted, lost = _counted(row, handover, task, first), _lost(row, handover, first)
    unknown = _take(row, counted, _NOBODY) or _take(row, lost, handover.process_id or _NOBODY)
    if unknown:
        last = Sent(scheduled_for=unknown[-1], sent_at=unknown[-1])
        first = _first_after(row, last, unknown[-1])
    sends = sends_since(row, handover.requested_at, with_claims=True)
    has_run_out = row.run_limit is not None and row.run_count + sends >= row.run_limit
    return Position(
        first=None if has_run_out else first,
        last=None if last is None else last.scheduled_for,
        sends=sends,
        unknown=unknown,
    )


def anchor(row: PgPeriodicSchedule, handover: Handover) -> datetime | None:
    """The `last_run_at` with which Beat goes on where it has stopped; None: from where it is.

    Beat's row may say less than Beat knew: what it writes back for a row that is disabled is kept only in part. As
    `find`, but takes nothing.
    """
    last, task = last_send(row.pk), rows.lock(row.beat_name)
    if row.kind == ScheduleKind.INTERVAL:
        first = _first(row, handover, task, last)
        return None if first is None else first - period(row.cron_string)
    known = [_floor(row, handover, task, last)]
    known += [] if last is None else [last.sent_at]
    known += [] if task is None or task.last_run_at is None else [task.last_run_at]
    return max(known)


def last_send(schedule_id: UUID) -> Sent | None:
    """The latest occurrence that Beat has sent, as far as is recorded; None: none is."""
    found = _all("last_send", {"schedule_id": schedule_id})
    return Sent(scheduled_for=found[0][0], sent_at=found[0][1]) if found else None


def sends_since(row: PgPeriodicSchedule, since: datetime, *, with_claims: bool) -> int:
    """How many occurrences Beat has sent first, of what was recorded since an instant."""
    parameters = {"beat_name": row.beat_name, "since": since, "with_claims": with_claims}
    [(sends,)] = _all("sends_since", parameters)
    return int(sends)


def _first(
    row: PgPeriodicSchedule, handover: Handover, task: PeriodicTask | None, last: Sent | None
) -> datetime | None:
    """The first occurrence that Beat has not sent, as far as is recorded."""
    changed_at = _changed_at(row)
    if changed_at is not None and changed_at > handover.requested_at:
        # Whoever changed it has placed it, and nothing has moved it since: the tick does not see it.
        is_sent = last is not None and row.next_run_at is not None and last.scheduled_for >= row.next_run_at
        return _first_after(row, last, changed_at) if is_sent else row.next_run_at
    return _first_after(row, last, _floor(row, handover, task, last))


def _first_after(row: PgPeriodicSchedule, last: Sent | None, floor: datetime) -> datetime | None:
    """The first occurrence after what Beat has sent last, and after `floor`: before that it was not in force."""
    ahead = PgPeriodicSchedule(**{name: getattr(row, name) for name in _PLACED})
    if row.kind != ScheduleKind.INTERVAL:
        # Where the row stands tells nothing: its shadow has gone on where Beat was late.
        return grid.first_run_at(ahead, max(floor, last.scheduled_for) if last else floor)
    step = period(row.cron_string)
    if last is not None and last.sent_at >= floor:
        first = last.sent_at + step
    elif row.next_run_at is None:
        return None
    else:
        first = row.next_run_at - max(0, (row.next_run_at - floor - _TICK) // step) * step
    return None if grid.is_beyond_end(row, first) else first


def _changed_at(row: PgPeriodicSchedule) -> datetime | None:
    """When somebody last changed when it occurs, or switched it on or off."""
    [(changed_at,)] = _all("changed_at", {"schedule_id": row.pk})
    return None if changed_at is None else max(changed_at, row.created_at)


def _floor(row: PgPeriodicSchedule, handover: Handover, task: PeriodicTask | None, last: Sent | None) -> datetime:
    """Before it nothing is PG's any more: what occurred then was Beat's, or nobody's, or is decided."""
    [(since,)] = _all("in_force_since", {"schedule_id": row.pk, "is_enabled": row.enabled})
    known = [at for at in (since, row.created_at) if at is not None]
    is_once = row.run_limit == 1 or row.kind == ScheduleKind.CLOCKED
    if last is None and not is_once:  # then only what Beat could be late with
        known.append(handover.requested_at - LATE)
        if task is not None and task.last_run_at is not None and task.total_run_count:
            known.append(task.last_run_at)
    return max(known)


def _counted(
    row: PgPeriodicSchedule, handover: Handover, task: PeriodicTask | None, first: datetime | None
) -> list[datetime]:
    """What Beat has counted as run before it sent the canary, and nobody recorded.

    Beat writes its counts back before it loads a change. Its last run then is not kept (the row is disabled), but how
    often it had run is: more often than the journal has sends since the last run that the row tells of. Says nothing
    where the row was changed about then, because that last run may be one that we wrote.
    """
    if task is None or task.last_run_at is None or handover.method != HandoverMethod.CANARY:
        return []
    if task.total_run_count <= handover.beat_run_count:
        return []
    parameters = {"schedule_id": row.pk, "beat_name": row.beat_name, "canary": handover.canary}
    [(seen, is_changed, loaded_at)] = _all("counted", {**parameters, "last_run_at": task.last_run_at})
    missing = task.total_run_count - handover.beat_run_count - seen
    if is_changed or loaded_at is None or missing <= 0:
        return []
    return _occurrences(row, first, loaded_at)[:missing]


def _lost(row: PgPeriodicSchedule, handover: Handover, first: datetime | None) -> list[datetime]:
    """What a Beat that was killed may have sent: whatever occurred between its last record and its death."""
    if handover.process_id is None:
        return []
    parameters = {
        "process": handover.process_id,
        "unrecorded_seconds": UNRECORDED_SECONDS,
        "alive_seconds": BEAT_ALIVE.total_seconds(),
    }
    [(since, until)] = _all("last_evidence", parameters) or [(None, None)]
    if since is None:
        return []
    return [at for at in _occurrences(row, first, min(until, handover.requested_at + BEAT_ALIVE)) if at >= since]


def _occurrences(row: PgPeriodicSchedule, first: datetime | None, until: datetime) -> list[datetime]:
    """From `first` to `until`, both included."""
    found: list[datetime] = []
    while first is not None and first <= until:
        found.append(first)
        first = _first_after(row, Sent(scheduled_for=first, sent_at=first), first)
    return found


def _take(row: PgPeriodicSchedule, occurrences: list[datetime], process_id: UUID) -> list[datetime]:
    if not occurrences:
        return []
    parameters: dict[str, Any] = {
        "schedule_id": row.pk,
        "organization_id": row.organization_id,
        "beat_name": row.beat_name,
        "process": process_id,
        "occurrences": occurrences,
    }
    return [found[0] for found in _all("take_unknown", parameters)]


def _all(name: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connections[scheduler_settings().database].cursor() as cursor:
        cursor.execute(statements("cutover")[name], parameters)
        return list(cursor.fetchall())
