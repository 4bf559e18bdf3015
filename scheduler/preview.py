"""What lies ahead of a schedule, under our rules and under Celery Beat's, side by side.

The next occurrences, and those around the next two changes of the zone's clock, where the two differ by rule. Beat's
side is Celery's own evaluator's answer (`scheduler.beat.certificate`); where an expression is one that Beat cannot hold
with the same meaning, it is what Beat makes of the same text, if that is anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.timezone import now as process_clock

from scheduler import beat, grid
from scheduler.beat.certificate import Compared, sections
from scheduler.beat.differences import DifferenceRule, explain
from scheduler.beat.evaluation import BeatSchedule, is_celery_installed
from scheduler.beat.expressions import literal_crontab
from scheduler.beat.rows import express
from scheduler.domain import MOST_COUNTED, ScheduleKind
from scheduler.models import PgPeriodicSchedule
from scheduler.recurrence import Cadence, count_between, period, validate
from scheduler.recurrence.instants import check, moment
from scheduler.recurrence.zones import Stretch

MOST_AT_A_CHANGE = 24
"""Occurrences that are shown around one clock change, those nearest to it: a schedule of every minute has hundreds."""
UNEXPLAINED = "No known rule explains the difference."
_TOLERANCE = timedelta(seconds=2)
"""What ephem says of one event differs by so much, depending on where its search begins."""

_NO_CELERY = "Celery is not installed here, so that Celery Beat's side is not shown."
_NO_BEAT = "django-celery-beat is not installed here, so that Celery Beat's side is not shown."
_NOT_HELD = "Celery Beat cannot hold this expression."
_READ_OTHERWISE = (
    "Celery Beat cannot hold this expression with the same meaning; its side shows what it makes of the same fields."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRow:
    """An occurrence of both sides, or of one."""

    pg: datetime | None
    """When it occurs here; None: only Beat sends then."""
    beat: datetime | None
    """When Celery Beat would send it; None: it would not, or its side is not shown."""
    differs: bool
    rule: DifferenceRule | None
    """What a difference follows from; None: there is none, or nothing known explains it."""

    @property
    def reason(self) -> str:
        """Why they differ, in a sentence or two; empty where they do not."""
        if not self.differs:
            return ""
        return UNEXPLAINED if self.rule is None else self.rule.sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockChange:
    """The occurrences around a change of the zone's clock."""

    at: datetime
    offset_before: timedelta
    offset_after: timedelta
    """From UTC."""
    rows: tuple[PreviewRow, ...]
    """At most `MOST_AT_A_CHANGE`, in order."""
    left_out: int
    """How many more there are around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What lies ahead."""

    timezone: str
    rows: tuple[PreviewRow, ...]
    """The next occurrences."""
    changes: tuple[ClockChange, ...]
    """The next two changes of a crontab's zone within three years; empty for every other kind."""
    note: str
    """Why Beat's side is not shown, or means something else; empty: it is shown."""

    @property
    def occurrences(self) -> list[datetime]:
        """Ours among the next ones."""
        return [row.pg for row in self.rows if row.pg is not None]


def preview(cadence: Cadence, *, after: datetime, count: int) -> Preview:
    """The next `count` occurrences (1 to 1000) after `after`, and those around the next two clock changes.

    An interval is counted from `after`. Takes some milliseconds.

    Raises:
        InvalidInput: the cadence means nothing, or `after` is naive or outside the years 1900 to 2999.
    """
    validate(kind=cadence.kind, expression=cadence.expression, timezone=cadence.timezone, dialect=cadence.dialect)
    return _preview(cadence, check(after, "after"), count, lambda at: False)


def preview_of(row: PgPeriodicSchedule, *, count: int, now: datetime | None = None) -> Preview:
    """The same of a stored schedule, within its start, end and limit; of one that is paused, as if it were resumed.

    `now` None: by this process's clock, because nothing is decided by it. Empty where nothing lies ahead.

    Raises:
        InvalidInput: the row means nothing.
    """
    now = now or process_clock()
    cadence = grid.cadence_of(row)
    first = grid.next_run_at(row, now) if row.next_run_at is not None else None
    if first is None:
        return Preview(timezone=row.timezone, rows=(), changes=(), note="")
    anchor = first - period(row.cron_string) if cadence.kind is ScheduleKind.INTERVAL else grid.beat_anchor(row, now)
    left = None if row.run_limit is None else row.run_limit - row.run_count

    def is_left_out(at: datetime) -> bool:
        if at < first - _TOLERANCE or grid.is_beyond_end(row, at):
            return True
        return left is not None and at > first and (count_between(cadence, first, at, MOST_COUNTED) or left) >= left

    return _preview(cadence, anchor, count, is_left_out)


def _preview(cadence: Cadence, after: datetime, count: int, is_left_out: Callable[[datetime], bool]) -> Preview:
    theirs, note = _beats_side(cadence)
    following: tuple[PreviewRow, ...] = ()
    changes = []
    for section in sections(theirs, cadence, after=after, count=count):
        compared = [one for one in section.compared if not is_left_out(one.at)]
        if section.change is None:
            following = tuple(_row(one, theirs, cadence, after) for one in compared[:count])
        else:
            changes.append(_change(section.change, compared, theirs, cadence, after))
    return Preview(timezone=cadence.timezone, rows=following, changes=tuple(changes), note=note)


def _row(one: Compared, theirs: BeatSchedule | None, cadence: Cadence, start: datetime) -> PreviewRow:
    if one.difference is None or theirs is None:
        return PreviewRow(pg=one.at, beat=None if theirs is None else one.at, differs=False, rule=None)
    rule = explain(one.difference, theirs, cadence, start)
    return PreviewRow(pg=one.difference.ours, beat=one.difference.beat, differs=True, rule=rule)


def _change(
    change: Stretch, compared: list[Compared], theirs: BeatSchedule | None, cadence: Cadence, start: datetime
) -> ClockChange:
    at = moment(change.start)
    assert at is not None
    kept = sorted(sorted(compared, key=lambda one: abs(one.at - at))[:MOST_AT_A_CHANGE], key=lambda one: one.at)
    return ClockChange(
        at=at,
        offset_before=timedelta(seconds=change.previous_offset),
        offset_after=timedelta(seconds=change.offset),
        rows=tuple(_row(one, theirs, cadence, start) for one in kept),
        left_out=len(compared) - len(kept),
    )


def _beats_side(cadence: Cadence) -> tuple[BeatSchedule | None, str]:
    """What Celery Beat would hold, and what is to be said of it."""
    if not is_celery_installed():
        return None, _NO_CELERY
    if cadence.kind is ScheduleKind.CLOCKED and not beat.is_installed():
        return None, _NO_BEAT
    times = express(PgPeriodicSchedule(kind=cadence.kind, cron_string=cadence.expression, dialect=cadence.dialect))
    if times is not None:
        return BeatSchedule(times=times, timezone=cadence.timezone), ""
    literal = literal_crontab(cadence.expression) if cadence.kind is ScheduleKind.CRONTAB else None
    if literal is None:
        return None, _NOT_HELD
    return BeatSchedule(times=literal, timezone=cadence.timezone), _READ_OTHERWISE
