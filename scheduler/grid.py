"""Where a schedule's row stands among its occurrences. Pure: a row and an instant in, instants out.

A crontab's occurrences are its expression's. An interval's are a grid of its own: `next_run_at` and every period
after it.
An occurrence lies at or after `starts_at` and before `ends_at`.

Whatever is missed while a schedule is paused, edited or quarantined is not made up for: it fires next at its next
occurrence after the change (no burst), and the ledger says what was left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduler.domain import MOST_COUNTED, CronDialect, Firer, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.models import PgPeriodicSchedule
from scheduler.recurrence import Cadence, count_between, evaluate, next_occurrences, period

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Consecutive occurrences that nothing was fired for."""

    first: datetime
    latest: datetime
    occurrences: int | None
    """None: the row could not be evaluated, so how many is not known; `latest` is then `first`."""


def cadence_of(row: PgPeriodicSchedule) -> Cadence:
    """When the row occurs, as a value."""
    return Cadence(ScheduleKind(row.kind), row.cron_string, row.timezone, CronDialect(row.dialect))


def first_run_at(row: PgPeriodicSchedule, now: datetime) -> datetime | None:
    """The first occurrence of a row that is new or was edited: after `now`, for an interval one period after it.

    An interval that starts later than `now` begins with its start. None: it has none.

    Raises:
        InvalidInput: the row's expression, timezone, kind or dialect means nothing.
    """
    starts_later = row.starts_at is not None and row.starts_at > now
    if row.kind == ScheduleKind.INTERVAL:
        found = row.starts_at if starts_later else now + period(row.cron_string)
        return _within(row, found)
    return _within(row, _crontab_after(row, _base(row, now)))


def next_run_at(row: PgPeriodicSchedule, now: datetime) -> datetime | None:
    """The first occurrence after `now` of a row that goes on where it was: an interval keeps its grid.

    None: it has none left. Raises `InvalidInput` as `first_run_at` does.
    """
    if row.next_run_at is None or row.next_run_at > now:
        return row.next_run_at if row.next_run_at else first_run_at(row, now)
    if row.kind == ScheduleKind.INTERVAL:
        step = period(row.cron_string)
        return _within(row, row.next_run_at + ((now - row.next_run_at) // step + 1) * step)
    return _within(row, _crontab_after(row, _base(row, now)))


def first_run_after_send(row: PgPeriodicSchedule, sent_at: datetime | None, now: datetime) -> datetime | None:
    """The first occurrence after `now` of a row that Celery Beat fires: an interval goes on from Beat's last send.

    `sent_at` None: Beat has not sent it yet. None: it has no occurrence left. Raises `InvalidInput` as `first_run_at`
    does.
    """
    if row.kind != ScheduleKind.INTERVAL:
        return first_run_at(row, now)
    first = first_run_at(row, sent_at or now)
    if first is None or first > now:
        return first
    step = period(row.cron_string)
    return _within(row, first + ((now - first) // step + 1) * step)


def shown_next_run_at(row: PgPeriodicSchedule, now: datetime) -> datetime | None:
    """The next occurrence as people are to see it.

    Where PG fires the row it is the stored one, which may be overdue. Where Beat does, only the shadow advances the
    stored one, while a leader ticks: it is the first after `now`. A row that is paused, or cannot be evaluated, shows
    the stored one.
    """
    if row.firer != Firer.BEAT or row.next_run_at is None or not row.enabled:
        return row.next_run_at
    try:
        return next_run_at(row, now)
    except InvalidInput:
        return row.next_run_at


def upcoming(row: PgPeriodicSchedule, count: int, now: datetime) -> list[datetime]:
    """At most `count` (up to 1000) occurrences that are ahead, earliest first; an overdue one is not among them.

    Empty while the row is paused, quarantined or ended. Raises `InvalidInput` as `first_run_at` does.
    """
    if not row.enabled or row.quarantined_at is not None:
        return []
    first = next_run_at(row, now) if row.next_run_at is not None else None
    if first is None:
        return []
    if row.run_limit is not None:
        count = min(count, row.run_limit - row.run_count)
    following = [first] if count == 1 else [first, *_after(row, first, count - 1)]
    return [at for at in following if not is_beyond_end(row, at)]


def unfired(row: PgPeriodicSchedule, now: datetime) -> Stretch | None:
    """The occurrences from `next_run_at` to `now`, both included; None: nothing is overdue.

    Of a row that goes back to Celery Beat, up to the instant from which on they are Beat's. A row that cannot be
    evaluated has a stretch of unknown length.
    """
    now = now if row.beat_from is None else min(now, row.beat_from)
    if row.next_run_at is None or row.next_run_at > now:
        return None
    try:
        return _stretch(row, row.next_run_at, now)
    except InvalidInput:
        return Stretch(first=row.next_run_at, latest=row.next_run_at, occurrences=None)


def is_beyond_end(row: PgPeriodicSchedule, at: datetime) -> bool:
    """Whether the schedule has ended by then, or has run as often as it may."""
    has_run_out = row.run_limit is not None and row.run_count >= row.run_limit
    return has_run_out or (row.ends_at is not None and at >= row.ends_at)


def beat_anchor(row: PgPeriodicSchedule, now: datetime) -> datetime:
    """The `last_run_at` with which Celery Beat, too, sends next at `next_run_at`, and not at once."""
    if row.kind == ScheduleKind.INTERVAL and row.next_run_at is not None:
        return row.next_run_at - period(row.cron_string)
    return _base(row, now)


def beat_anchor_after(row: PgPeriodicSchedule, after: datetime) -> datetime:
    """The `last_run_at` with which Celery Beat sends its first occurrence after `after`; an interval keeps its grid."""
    if row.kind != ScheduleKind.INTERVAL or row.next_run_at is None:
        return after
    step = period(row.cron_string)
    steps = max(0, (after - row.next_run_at) // step + 1)
    return row.next_run_at + (steps - 1) * step


def is_spent_by(row: PgPeriodicSchedule, at: datetime) -> bool:
    """Whether nothing is left of the row after `at`: it has ended, or occurs once, and then."""
    is_once = row.run_limit == 1 or row.kind == ScheduleKind.CLOCKED
    return row.next_run_at is None or (is_once and row.next_run_at <= at)


def _stretch(row: PgPeriodicSchedule, first: datetime, now: datetime) -> Stretch:
    end = now if row.ends_at is None else min(now, row.ends_at - _TICK)
    cadence = cadence_of(row)
    if cadence.kind is ScheduleKind.INTERVAL:
        steps = max(0, (end - first) // period(row.cron_string))
        return Stretch(first=first, latest=first + steps * period(row.cron_string), occurrences=steps + 1)
    latest = max(first, evaluate(cadence, max(first, end)).latest or first)
    before_latest = count_between(cadence, first, latest, MOST_COUNTED)
    return Stretch(first=first, latest=latest, occurrences=None if before_latest is None else before_latest + 1)


def _base(row: PgPeriodicSchedule, now: datetime) -> datetime:
    return now if row.starts_at is None else max(now, row.starts_at - _TICK)


def _crontab_after(row: PgPeriodicSchedule, after: datetime) -> datetime | None:
    return next(iter(_after(row, after, 1)), None)


def _after(row: PgPeriodicSchedule, after: datetime, count: int) -> list[datetime]:
    return next_occurrences(
        kind=row.kind,
        expression=row.cron_string,
        timezone=row.timezone,
        dialect=row.dialect,
        after=after,
        count=count,
    )


def _within(row: PgPeriodicSchedule, found: datetime | None) -> datetime | None:
    return None if found is None or is_beyond_end(row, found) else found
