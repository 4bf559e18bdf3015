"""The kinds of schedules behind one contract, so that a question is put to each alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Protocol, TypeVar

from scheduler.domain import CronDialect, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.recurrence import celery_grammar, clocked, fields, intervals, occurrences, solar, unix_grammar
from scheduler.recurrence.instants import moment, seconds_down, seconds_up
from scheduler.recurrence.walltime import WallPattern
from scheduler.recurrence.zones import TimeLine, time_line

Member = TypeVar("Member", bound=StrEnum)

_PARSERS: dict[CronDialect, Callable[[str], WallPattern]] = {
    CronDialect.UNIX: unix_grammar.parse,
    CronDialect.CELERY: celery_grammar.parse,
}
_LAST = datetime(9950, 1, 1, tzinfo=UTC)
"""The calendar ends with the year 9999: a search of 41 years from here stays within it."""


class Recurrence(Protocol):
    """The occurrences of one expression. Instants given are aware; those returned are in UTC."""

    def following(self, at: datetime) -> datetime | None:
        """The first occurrence after `at`; None where the kind's search horizon holds none."""

    def preceding(self, at: datetime) -> datetime | None:
        """The last occurrence at or before `at`; None where the kind's search horizon holds none.

        Raises:
            InvalidInput: field `kind`, where that depends on more than the expression.
        """

    def count(self, start: datetime, end: datetime) -> int | None:
        """How many occurrences lie in `start <= occurrence < end`; None where that takes too long to say."""


@dataclass(frozen=True, slots=True)
class Crontab:
    """A pattern of the wall clock in a zone."""

    pattern: WallPattern
    line: TimeLine

    def following(self, at: datetime) -> datetime | None:
        """Searches 41 years, to the end of the calendar at most."""
        return moment(occurrences.following(self.pattern, self.line, seconds_down(at))) if at < _LAST else None

    def preceding(self, at: datetime) -> datetime | None:
        """Searches 41 years."""
        return moment(occurrences.preceding(self.pattern, self.line, seconds_down(at)))

    def count(self, start: datetime, end: datetime) -> int:
        """Costs about the same however many there are."""
        return occurrences.count(self.pattern, self.line, seconds_up(start), seconds_up(end))


@dataclass(frozen=True, slots=True)
class Interval:
    """So much elapsed time after the last occurrence, which is the `at` or the `start` that a caller gives."""

    period: timedelta

    def following(self, at: datetime) -> datetime | None:
        """One period later; None beyond the calendar's end."""
        at = at.astimezone(UTC)
        return at + self.period if datetime.max.replace(tzinfo=UTC) - at >= self.period else None

    def preceding(self, at: datetime) -> datetime | None:
        """Unknown: an interval has no grid of its own."""
        expected = "crontab, clocked or solar (an interval's occurrences depend on where it was anchored)"
        raise InvalidInput(field="kind", expected=expected, got=ScheduleKind.INTERVAL.value)

    def count(self, start: datetime, end: datetime) -> int:
        """Anchored on `start`, which counts."""
        return max(0, -((start - end) // self.period))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a kind does with an expression; each raises `InvalidInput` with field `expression`."""

    fold: Callable[[object], str]
    """The expression in its one spelling."""
    read: Callable[[str, str, str], Recurrence]
    """The occurrences of an expression in a zone and a dialect; raises with field `timezone`, `dialect` or `kind` too.
    Cheap for an expression seen before."""


def kind_of(name: str) -> Kind:
    """The kind of this name.

    Raises:
        InvalidInput: field `kind`.
    """
    return _KINDS[member(ScheduleKind, name, "kind")]


def member(members: type[Member], value: str, field: str) -> Member:
    """The member with this value.

    Raises:
        InvalidInput: `field`, naming the members.
    """
    try:
        return members(value)
    except ValueError:
        raise InvalidInput(field=field, expected=f"one of {', '.join(members)}", got=value) from None


@lru_cache(maxsize=32_768)
def pattern_of(expression: str, dialect: str) -> WallPattern:
    """What a crontab names. Parsed once per distinct text.

    Raises:
        InvalidInput: field `expression` or `dialect`.
    """
    parse = _PARSERS[member(CronDialect, dialect, "dialect")]
    return parse(fields.fold(expression))


def _read_crontab(expression: str, timezone: str, dialect: str) -> Crontab:
    return Crontab(pattern_of(expression, dialect), time_line(timezone))


_KINDS = {
    ScheduleKind.CRONTAB: Kind(fold=fields.fold, read=_read_crontab),
    ScheduleKind.INTERVAL: Kind(
        fold=intervals.fold, read=lambda expression, _zone, _dialect: Interval(intervals.period(expression))
    ),
    ScheduleKind.CLOCKED: Kind(fold=clocked.fold, read=lambda expression, _zone, _dialect: clocked.parse(expression)),
    ScheduleKind.SOLAR: Kind(fold=solar.fold, read=lambda expression, _zone, _dialect: solar.parse(expression)),
}
