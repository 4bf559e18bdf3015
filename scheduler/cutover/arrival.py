"""The end of a hand-over to PG: where Beat has stopped, and so where PG begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections, transaction

from scheduler import beat, changes, clock, grid
from scheduler.beat import canary, rows
from scheduler.domain import Firer, HandoverState, Hold, ScheduleKind
from scheduler.models import Handover, PgPeriodicSchedule
from scheduler.querysets import BEAT_ALIVE
from scheduler.recurrence import period
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

BATCH = 100
"""Most hand-overs that one call completes."""
LATE = timedelta(seconds=15)
"""How late Beat may be, and its sends on their way to the journal."""
PATIENCE = timedelta(seconds=3)
"""How long a canary may be on its way before it is planted anew."""
RECENT = timedelta(seconds=60)
"""What Beat had owed for longer when the hand-over began is up to the schedule's catch-up policy."""
UNRECORDED_SECONDS = 0.5
"""How long before its last sign of life a Beat that was killed may have sent what it did not record."""
_COUNTING = timedelta(seconds=0.5)
"""How far apart Beat's count of a run and our record of it may lie; half of the shortest period of Beat's."""
_NOBODY = UUID(int=0)
"""Whose a send is that Beat counted and nobody recorded."""
_TICK = timedelta(microseconds=1)


def complete_arrivals() -> int:
    """Complete one batch of hand-overs to PG of which it is known what Beat has sent; how many.

    A transaction of its own for each. Safe in parallel.
    """
    ids = [found[0] for found in _all("arrived", {"limit": BATCH, "alive_seconds": BEAT_ALIVE.total_seconds()})]
    return sum(_complete(handover_id) for handover_id in ids)


def has_arrived(handover: Handover) -> bool:
    """Whether it is known what Beat has sent of the schedule. Joins the caller's transaction."""
    parameters = {"limit": 2**31, "alive_seconds": BEAT_ALIVE.total_seconds()}
    return (handover.pk,) in _all("arrived", parameters)


def arrive(row: PgPeriodicSchedule, handover: Handover, now: datetime) -> None:
    """Let PG go on where Beat has stopped. The row is held, PG fires it, and it waits for this."""
    position = _find(row, handover)
    row.hold = None if row.hold == Hold.HANDOVER else row.hold
    row.last_run_at = max(filter(None, (row.last_run_at, position.last)), default=None)
    row.run_count += position.sends
    row.next_run_at = position.first
    owes = position.first is not None and position.first >= handover.requested_at - RECENT
    row.make_up_until = now if owes else None
    columns = ("hold", "last_run_at", "run_count", "next_run_at", "make_up_until")
    row.save(using=_alias(), update_fields=columns)
    handover.outcome = {
        "sends": position.sends,
        "first": position.first and position.first.isoformat(),
        "unknown": [occurrence.isoformat() for occurrence in position.unknown],
    }
    end(handover, HandoverState.DONE, now)
    changes.wake_leader(row.pk)


def end(handover: Handover, state: HandoverState, now: datetime, why: str = "") -> None:
    """Store that it is over."""
    handover.state, handover.ended_at = state.value, now
    if why:
        handover.outcome = {**handover.outcome, "why": why}
    handover.save(using=_alias())


def hold_waiting(handover_id: int) -> tuple[Handover | None, PgPeriodicSchedule | None]:
    """A hand-over that waits, and its schedule, both held: the schedule first, as every change of one holds it.

    None: it does not wait any more; there is no such schedule. Joins the caller's transaction.
    """
    found = Handover.objects.using(_alias()).filter(pk=handover_id).first()
    if found is None:
        return None, None
    row = PgPeriodicSchedule.objects.using(_alias()).select_for_update().filter(pk=found.schedule_id).first()
    return Handover.objects.using(_alias()).waiting().select_for_update().filter(pk=handover_id).first(), row


def _complete(handover_id: int) -> int:
    with transaction.atomic(using=_alias()):
        handover, row = hold_waiting(handover_id)
        if handover is None:
            return 0
        now = clock.now(_alias())
        if row is None or row.firer != Firer.PG:
            end(handover, HandoverState.CANCELLED, now, "the schedule was deleted meanwhile")
        else:
            arrive(row, handover, now)
    return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Position:
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


def _find(row: PgPeriodicSchedule, handover: Handover) -> _Position:
    last = last_send(row.pk)
    task = rows.lock(row.beat_name) if beat.is_installed() else None
    first = _first_after(row, last, _floor(row, handover, task))
    counted, lost = _counted(row, handover, task, first), _lost(row, handover, first)
    unknown = _take(row, counted, _NOBODY) or _take(row, lost, handover.process_id or _NOBODY)
    if unknown:
        last = Sent(scheduled_for=unknown[-1], sent_at=unknown[-1])
        first = _first_after(row, last, unknown[-1])
    sends = sends_since(row.pk, handover.requested_at, with_claims=True)
    has_run_out = row.run_limit is not None and row.run_count + sends >= row.run_limit
    return _Position(
        first=None if has_run_out else first,
        last=None if last is None else last.scheduled_for,
        sends=sends,
        unknown=unknown,
    )


def _first_after(row: PgPeriodicSchedule, last: Sent | None, floor: datetime) -> datetime | None:
    """The first occurrence after what Beat has sent last, and after `floor`: before that it was not in force."""
    if row.next_run_at is None:
        return None
    ahead = PgPeriodicSchedule(**{name: getattr(row, name) for name in _PLACED})
    if row.kind != ScheduleKind.INTERVAL:
        ahead.next_run_at = None
        return grid.first_run_at(ahead, max(floor, last.scheduled_for) if last else floor)
    step = period(row.cron_string)
    if last is not None and last.sent_at >= floor:
        first = last.sent_at + step
    else:
        first = row.next_run_at - max(0, (row.next_run_at - floor - _TICK) // step) * step
    return None if grid.is_beyond_end(row, first) else first


_PLACED = ("kind", "cron_string", "timezone", "dialect", "starts_at", "ends_at", "run_limit", "run_count")


def _floor(row: PgPeriodicSchedule, handover: Handover, task: PeriodicTask | None) -> datetime:
    """Before it nothing is PG's any more: what occurred then was Beat's, or nobody's, or is decided."""
    [(since,)] = _all("in_force_since", {"schedule_id": row.pk, "is_enabled": row.enabled})
    known = [at for at in (since, row.created_at) if at is not None]
    if last_send(row.pk) is None:  # then only what Beat could be late with
        known.append(handover.requested_at - LATE)
        if task is not None and task.last_run_at is not None and task.total_run_count:
            known.append(task.last_run_at)
    return max(known)


def _counted(
    row: PgPeriodicSchedule, handover: Handover, task: PeriodicTask | None, first: datetime | None
) -> list[datetime]:
    """What Beat has counted as run since, and nobody recorded: Beat writes its counts back before it loads.

    A Beat that claims records before it counts.
    """
    if task is None or task.last_run_at is None or task.total_run_count <= handover.beat_run_count:
        return []
    [(last_heard,)] = _all("last_heard", {"schedule_id": row.pk})
    if last_heard is not None and task.last_run_at <= last_heard + _COUNTING:
        return []
    is_interval = row.kind == ScheduleKind.INTERVAL  # which Beat counts from an instant just before its send
    return _occurrences(row, first, task.last_run_at + (_COUNTING if is_interval else timedelta(0)))


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


def last_send(schedule_id: UUID) -> Sent | None:
    """The latest occurrence that Beat has sent, as far as is recorded; None: none is."""
    found = _all("last_send", {"schedule_id": schedule_id})
    return Sent(scheduled_for=found[0][0], sent_at=found[0][1]) if found else None


def sends_since(schedule_id: UUID, since: datetime, *, with_claims: bool) -> int:
    """How many occurrences Beat has sent first, of what was recorded since an instant."""
    [(sends,)] = _all("sends_since", {"schedule_id": schedule_id, "since": since, "with_claims": with_claims})
    return int(sends)


def plant_again() -> int:
    """Plant the canaries anew that nobody has sent for some seconds, and have Beat see them; how many.

    Beat can miss an announcement that is made while it starts, and one that is killed may have sent without a record.
    """
    with transaction.atomic(using=_alias()):
        names = [found[0] for found in _all("unsent_canaries", {"patience_seconds": PATIENCE.total_seconds()})]
        for name in names:
            canary.plant(name)
    return len(names)


def remove_unneeded_canaries() -> int:
    """Remove the canaries for which no hand-over waits; how many there were."""
    with transaction.atomic(using=_alias()):
        waiting = Handover.objects.using(_alias()).waiting().exclude(canary="").values_list("canary", flat=True)
        return canary.remove_all_but(set(waiting))


def _all(name: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connections[_alias()].cursor() as cursor:
        cursor.execute(statements("cutover")[name], parameters)
        return list(cursor.fetchall())


def _alias() -> str:
    return scheduler_settings().database
