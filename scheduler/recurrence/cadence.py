"""Cadences: when a schedule occurs, as a value, and the questions asked of it.

Crontabs are parsed once per distinct text and kept in a bounded cache, zones likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from scheduler.domain import CronDialect, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.recurrence import celery_grammar, fields, intervals, occurrences, unix_grammar
from scheduler.recurrence.walltime import WallPattern
from scheduler.recurrence.zones import TimeLine, time_line

MOST_OCCURRENCES = 1000
"""The largest `count` of `next_occurrences`."""

Member = TypeVar("Member", bound=StrEnum)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST = datetime(3000, 1, 1, tzinfo=UTC)

_PARSERS: dict[CronDialect, Callable[[str], WallPattern]] = {
    CronDialect.UNIX: unix_grammar.parse,
    CronDialect.CELERY: celery_grammar.parse,
}


@dataclass(frozen=True, slots=True)
class Cadence:
    """When a schedule occurs. Equal cadences occur together: compute each distinct one once.

    Building one checks nothing; `validate` does, where a schedule is written.
    """

    kind: ScheduleKind
    expression: str
    timezone: str
    """An IANA zone; an interval ignores it."""
    dialect: CronDialect = CronDialect.UNIX
    """An interval ignores it."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The occurrences around an instant, in UTC. Each is None where the search horizon (41 years) holds none."""

    before_latest: datetime | None
    """The occurrence before `latest`."""
    latest: datetime | None
    """The latest occurrence at or before the instant."""
    next: datetime | None
    """The first occurrence after the instant."""


def next_occurrences(
    *, kind: str, expression: str, timezone: str, dialect: str = "unix", after: datetime, count: int
) -> list[datetime]:
    """The first `count` occurrences strictly after `after`, in UTC, earliest first.

    `kind` is `crontab` or `interval`, `dialect` is `unix` or `celery`; an interval occurs at `after` plus one period,
    two periods and so on. `after` is aware and between the years 1900 and 2999, `count` from 1 to 1000. The list is
    shorter only where a crontab has no further occurrence within 41 years of the last, or an interval's leave the year
    9999.

    Raises:
        InvalidInput: field `kind`, `expression`, `timezone`, `dialect`, `after` or `count`.
    """
    _check_count(count)
    cadence = _check(kind=kind, expression=expression, timezone=timezone, dialect=dialect)
    _instant(after, "after")
    if cadence.kind is ScheduleKind.INTERVAL:
        return _next_of_interval(intervals.period(expression), after.astimezone(UTC), count)
    return list(islice(_upcoming(cadence, after), count))


def evaluate(cadence: Cadence, at: datetime) -> Neighbours:
    """The occurrences of a crontab around `at`, which is aware.

    Microseconds' work for an expression and a zone seen before: made for calling once per distinct cadence and tick.

    Raises:
        InvalidInput: field `kind` for an interval, whose occurrences depend on where it was anchored; field `at` for a
            naive instant or one outside the years 1900 to 2999; field `expression`, `timezone` or `dialect` for a
            cadence that `validate` would refuse (one that never fires has None throughout).
    """
    pattern, line = _crontab(cadence)
    instant = _instant(at, "at")
    latest = occurrences.preceding(pattern, line, instant)
    before = None if latest is None else occurrences.preceding(pattern, line, latest - 1)
    return Neighbours(_moment(before), _moment(latest), _moment(occurrences.following(pattern, line, instant)))


def count_between(cadence: Cadence, start: datetime, end: datetime, limit: int) -> int | None:
    """How many occurrences lie in `start <= occurrence < end`; None where there are more than `limit`.

    With the first missed occurrence as `start` and the latest as `end` this is how many the latest stands in for. An
    interval is anchored on `start`, which then counts. Costs about the same however many there are.

    Raises:
        InvalidInput: as `evaluate` does, with field `start` or `end` for a bad instant.
    """
    first, last = _instant(start, "start"), _instant(end, "end")
    if cadence.kind == ScheduleKind.INTERVAL:
        counted = max(0, -((start - end) // intervals.period(cadence.expression)))
    else:
        pattern, line = _crontab(cadence)
        counted = occurrences.count(pattern, line, _round_up(start, first), _round_up(end, last))
    return counted if counted <= limit else None


def normalise(kind: str, expression: str, dialect: str) -> str:
    """The expression as it is to be stored: one spelling for what differs only in spaces and case.

    A crontab in lower case, one space between fields, none beside commas (`"0, 15, 30  * * * MON"` becomes
    `"0,15,30 * * * mon"`); a duration in upper case. Macros, names and ranges stay as written.

    Raises:
        InvalidInput: field `kind`, `dialect`, or `expression` when it is no text, empty or over 1000 characters.
            Whether it means anything is `validate`'s to say.
    """
    _member(CronDialect, dialect, "dialect")
    folds = {ScheduleKind.CRONTAB: fields.fold, ScheduleKind.INTERVAL: intervals.fold}
    return folds[_member(ScheduleKind, kind, "kind")](expression)


def validate(*, kind: str, expression: str, timezone: str, dialect: str = "unix") -> None:
    """Accepts exactly what can be scheduled.

    Raises:
        InvalidInput: field `kind`, `expression`, `timezone` or `dialect`; also for a crontab that never occurs, such as
            30 February.
    """
    _check(kind=kind, expression=expression, timezone=timezone, dialect=dialect)


def _check(*, kind: str, expression: str, timezone: str, dialect: str) -> Cadence:
    cadence = Cadence(
        _member(ScheduleKind, kind, "kind"), expression, timezone, _member(CronDialect, dialect, "dialect")
    )
    if not isinstance(timezone, str):
        raise InvalidInput(field="timezone", expected="the name of an IANA time zone, as text", got=timezone)
    time_line(timezone)
    try:
        _check_expression(cadence)
    except InvalidInput as refusal:
        raise _as_typed(refusal, expression) from None
    return cadence


def _check_expression(cadence: Cadence) -> None:
    if cadence.kind is ScheduleKind.INTERVAL:
        intervals.period(cadence.expression)
    elif not _pattern(fields.fold(cadence.expression), cadence.dialect).days.is_possible:
        raise fields.refuse("an expression that has an occurrence", cadence.expression)


def _as_typed(refusal: InvalidInput, expression: Any) -> InvalidInput:
    """The refusal of a whole expression names it as it was typed, not as it was folded."""
    if not isinstance(expression, str) or str(refusal.got).casefold() != " ".join(expression.split()).casefold():
        return refusal
    return InvalidInput(field=refusal.field, expected=refusal.expected, got=expression)


def _check_count(count: object) -> None:
    if type(count) is not int or not 1 <= count <= MOST_OCCURRENCES:
        raise InvalidInput(field="count", expected=f"a whole number from 1 to {MOST_OCCURRENCES}", got=count)


def _member(members: type[Member], value: str, field: str) -> Member:
    try:
        return members(value)
    except ValueError:
        raise InvalidInput(field=field, expected=f"one of {', '.join(members)}", got=value) from None


def _crontab(cadence: Cadence) -> tuple[WallPattern, TimeLine]:
    if cadence.kind != ScheduleKind.CRONTAB:
        raise InvalidInput(field="kind", expected=ScheduleKind.CRONTAB.value, got=cadence.kind)
    return _pattern(cadence.expression, cadence.dialect), time_line(cadence.timezone)


@lru_cache(maxsize=32_768)
def _pattern(expression: str, dialect: CronDialect) -> WallPattern:
    parse = _PARSERS[_member(CronDialect, dialect, "dialect")]
    return parse(fields.fold(expression))


def _upcoming(cadence: Cadence, after: datetime) -> Iterator[datetime]:
    pattern, line = _crontab(cadence)
    instant: int | None = _instant(after, "after")
    while instant is not None and (instant := occurrences.following(pattern, line, instant)) is not None:
        yield _EPOCH + instant * _SECOND


def _next_of_interval(period: timedelta, after: datetime, count: int) -> list[datetime]:
    fitting = (datetime.max.replace(tzinfo=UTC) - after) // period
    return [after + step * period for step in range(1, min(count, fitting) + 1)]


def _instant(at: object, field: str) -> int:
    """Whole seconds since 1970 UTC, rounded down: occurrences are on whole seconds."""
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise InvalidInput(field=field, expected="a datetime with a time zone (an aware one)", got=at)
    if not _EARLIEST <= at < _LATEST:
        raise InvalidInput(field=field, expected="a datetime between the years 1900 and 2999", got=at)
    return (at - _EPOCH) // _SECOND


def _round_up(at: datetime, instant: int) -> int:
    return instant + bool(at.microsecond)


def _moment(instant: int | None) -> datetime | None:
    return None if instant is None else datetime.fromtimestamp(instant, UTC)
