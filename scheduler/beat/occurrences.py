"""Which occurrence was a send of Celery Beat? Pure: the mirror row and Beat's instant in, an instant out.

Beat sends at or after the instant at which it holds an entry to be due, by its own clock:

- crontab: it was the latest occurrence at or before the send;
- interval: the earlier send and a period. Beat counts from its own last send, which drifts by about 0.5 ms each time,
  so a fixed grid would soon name the wrong one;
- one-off instants and the sun: the nearest occurrence. The sun's are those of our evaluator, because ephem varies by
  some 100 ms with where its search begins.

An interval's send that comes well before the next is due repeats the one before it: a Beat that was killed before it
stored when it last ran sends again when it starts, and a second Beat sends what the first one sends. Only another
process than the one that sent last can do that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduler.domain import ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.grid import cadence_of
from scheduler.models import PgPeriodicSchedule
from scheduler.recurrence import Neighbours, evaluate, next_occurrences, period

_MOST_EARLY = timedelta(seconds=5)
"""How much before its instant an interval's send may come and still be it: clocks differ, and a send is timed a little
after Beat has decided on it. Half a period at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierSend:
    """The send from which an interval is counted: the last one of this process, or the last that had its occurrence
    first, whichever was later."""

    sent_at: datetime
    scheduled_for: datetime
    is_own: bool
    """Whether the process that sends now made it."""


def occurrence_of(row: PgPeriodicSchedule, sent_at: datetime, earlier: EarlierSend | None = None) -> datetime | None:
    """The occurrence that the schedule was sent for at `sent_at`; None: its row means nothing, or has none.

    `earlier` matters to intervals only; None: nothing is known of an earlier send.
    """
    try:
        if row.kind == ScheduleKind.INTERVAL:
            return _of_interval(row, sent_at, earlier)
        around = evaluate(cadence_of(row), sent_at)
    except (InvalidInput, ValueError, OverflowError):
        return None
    return around.latest if row.kind == ScheduleKind.CRONTAB else _nearest(around, sent_at)


def following(row: PgPeriodicSchedule, scheduled_for: datetime) -> datetime | None:
    """The occurrence after `scheduled_for`; None: there is none, or the row means nothing."""
    try:
        found = next_occurrences(
            kind=row.kind,
            expression=row.cron_string,
            timezone=row.timezone,
            dialect=row.dialect,
            after=scheduled_for,
            count=1,
        )
    except InvalidInput:
        return None
    return found[0] if found else None


def _nearest(around: Neighbours, at: datetime) -> datetime | None:
    candidates = [found for found in (around.latest, around.next) if found is not None]
    return min(candidates, key=lambda found: abs(found - at), default=None)


def _of_interval(row: PgPeriodicSchedule, sent_at: datetime, earlier: EarlierSend | None) -> datetime:
    step = period(row.cron_string)
    most_early = min(step / 2, _MOST_EARLY)
    if earlier is None or row.updated_at > earlier.sent_at:
        found = _on_grid(row, sent_at, step, most_early)
        is_before_all = earlier is None and found <= row.updated_at < sent_at
        return found + step if is_before_all else found  # Beat counts from when it loaded the row, and so is early
    due_at = earlier.sent_at + step
    is_repeated = not earlier.is_own and sent_at < due_at - most_early
    return earlier.scheduled_for if is_repeated else due_at


def _on_grid(row: PgPeriodicSchedule, sent_at: datetime, step: timedelta, most_early: timedelta) -> datetime:
    """Nothing was sent yet, or the schedule was changed since, which may have moved it: by the mirror's next one.

    The shadow advances that, so that it may lie some periods ahead. Behind by more than one it tells nothing.
    """
    if row.next_run_at is None or sent_at >= row.next_run_at + step:
        return sent_at
    steps_ahead = max(0, -((sent_at + most_early - row.next_run_at) // step))
    return row.next_run_at - steps_ahead * step
