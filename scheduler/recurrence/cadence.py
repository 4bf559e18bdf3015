"""Cadences: when a schedule occurs, as a value, and the questions asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any

from scheduler.domain import CronDialect, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.recurrence import fields, instants
from scheduler.recurrence.kinds import Crontab, Recurrence, kind_of, member
from scheduler.recurrence.zones import time_line

MOST_OCCURRENCES = 1000
"""The largest `count` of `next_occurrences`."""

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Cadence:
    """When a schedule occurs. Equal cadences occur together: compute each distinct one once.

    Building one checks nothing; `validate` does, where a schedule is written.
    """

    kind: ScheduleKind
    expression: str
    timezone: str
    """An IANA zone; only a crontab looks at it."""
    dialect: CronDialect = CronDialect.UNIX
    """Only a crontab looks at it."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The occurrences around an instant, in UTC.

    Each is None where the search horizon (41 years for a crontab, 400 days for a solar one) holds none.
    """

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

    `kind` is `crontab`, `interval`, `clocked` or `solar`, `dialect` is `unix` or `celery`; an interval occurs at
    `after` plus one period, two periods and so on. `after` is aware and between the years 1900 and 2999, `count` from 1
    to 1000. The list is shorter only where a crontab has no further occurrence within 41 years of the last, where the
    calendar ends (year 9999), and for a clocked one, which occurs once.

    Raises:
        InvalidInput: field `kind`, `expression`, `timezone`, `dialect`, `after` or `count`.
    """
    _check_count(count)
    recurrence = _check(kind=kind, expression=expression, timezone=timezone, dialect=dialect)
    return list(islice(_upcoming(recurrence, instants.check(after, "after")), count))


def evaluate(cadence: Cadence, at: datetime) -> Neighbours:
    """The occurrences around `at`, which is aware.

    Microseconds' work for an expression and a zone seen before (a solar one takes up to 0.1 ms for each UTC day that it
    looks at for the first time): made for calling once per distinct cadence and tick.

    Raises:
        InvalidInput: field `kind` for an interval, whose occurrences depend on where it was anchored; field `at` for a
            naive instant or one outside the years 1900 to 2999; field `expression`, `timezone`, `dialect` or `kind` for
            a cadence that `validate` would refuse (a crontab that never fires has None throughout).
    """
    recurrence = _read(cadence)
    instant = instants.check(at, "at")
    latest = recurrence.preceding(instant)
    before = None if latest is None else recurrence.preceding(latest - _TICK)
    return Neighbours(before, latest, recurrence.following(instant))


def count_between(cadence: Cadence, start: datetime, end: datetime, limit: int) -> int | None:
    """How many occurrences lie in `start <= occurrence < end`; None where there are more than `limit`.

    With the first missed occurrence as `start` and the latest as `end` this is how many the latest stands in for. An
    interval is anchored on `start`, which then counts. Costs about the same however many there are; but a solar cadence
    is looked at day by day, and over more than ten years not at all: None.

    Raises:
        InvalidInput: as `evaluate` does, with field `start` or `end` for a bad instant.
    """
    first, last = instants.check(start, "start"), instants.check(end, "end")
    counted = _read(cadence).count(first, last)
    return counted if counted is not None and counted <= limit else None


def occurrences_between(cadence: Cadence, start: datetime, end: datetime) -> Iterator[datetime]:
    """The occurrences in `start <= occurrence < end`, in UTC, one by one; an interval is anchored on `start`.

    Some 3 µs each. Raises when the first is asked for, as `count_between` does.
    """
    first, last = instants.check(start, "start"), instants.check(end, "end")
    recurrence = _read(cadence)
    if cadence.kind is ScheduleKind.INTERVAL and first < last:
        yield first
    for at in _upcoming(recurrence, first if cadence.kind is ScheduleKind.INTERVAL else first - _TICK):
        if at >= last:
            return
        yield at


def normalise(kind: str, expression: str, dialect: str) -> str:
    """The expression as it is to be stored: one spelling for what differs only in spaces and case.

    A crontab in lower case, one space between fields, none beside commas (`"0, 15, 30  * * * MON"` becomes
    `"0,15,30 * * * mon"`), its macros, names and ranges as written; a duration in upper case; a clocked instant in UTC
    (`2026-12-01T10:00:00Z`); a solar event in lower case, its place rounded to six decimals (`sunset 52.52 13.405`).

    Raises:
        InvalidInput: field `kind`, `dialect`, or `expression` when it is no text, empty or over 1000 characters, or no
            instant or event at a place. Whether it means anything is `validate`'s to say.
    """
    member(CronDialect, dialect, "dialect")
    try:
        return kind_of(kind).fold(expression)
    except InvalidInput as refusal:
        raise _as_typed(refusal, expression) from None


def validate(*, kind: str, expression: str, timezone: str, dialect: str = "unix") -> None:
    """Accepts exactly what can be scheduled.

    Raises:
        InvalidInput: field `kind`, `expression`, `timezone` or `dialect`; also for a crontab that never occurs, such as
            30 February, and field `kind` for a solar one where ephem is not installed.
    """
    _check(kind=kind, expression=expression, timezone=timezone, dialect=dialect)


def _check(*, kind: str, expression: str, timezone: str, dialect: str) -> Recurrence:
    read = kind_of(kind).read
    member(CronDialect, dialect, "dialect")
    if not isinstance(timezone, str):
        raise InvalidInput(field="timezone", expected="the name of an IANA time zone, as text", got=timezone)
    time_line(timezone)
    try:
        recurrence = read(kind_of(kind).fold(expression), timezone, dialect)
        if isinstance(recurrence, Crontab) and not recurrence.pattern.days.is_possible:
            raise fields.refuse("an expression that has an occurrence", expression)
    except InvalidInput as refusal:
        raise _as_typed(refusal, expression) from None
    return recurrence


@lru_cache(maxsize=32_768)
def _read(cadence: Cadence) -> Recurrence:
    return kind_of(cadence.kind).read(cadence.expression, cadence.timezone, cadence.dialect)


def _upcoming(recurrence: Recurrence, after: datetime) -> Iterator[datetime]:
    instant: datetime | None = after
    while instant is not None and (instant := recurrence.following(instant)) is not None:
        yield instant


def _as_typed(refusal: InvalidInput, expression: Any) -> InvalidInput:
    """The refusal of a whole expression names it as it was typed, not as it was folded."""
    if not isinstance(expression, str) or str(refusal.got).casefold() != " ".join(expression.split()).casefold():
        return refusal
    return InvalidInput(field=refusal.field, expected=refusal.expected, got=expression)


def _check_count(count: object) -> None:
    if type(count) is not int or not 1 <= count <= MOST_OCCURRENCES:
        raise InvalidInput(field="count", expected=f"a whole number from 1 to {MOST_OCCURRENCES}", got=count)
