"""Interval expressions: the part of ISO 8601 durations that is a fixed amount of elapsed time."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache

from scheduler.recurrence.fields import LONGEST_EXPRESSION, refuse

SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(days=3650)
"""Ten years of 365 days."""

_DURATION = re.compile(
    r"P(?:(?P<weeks>\d+)W"
    r"|(?=\d|T\d)(?:(?P<days>\d+)D)?(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?"
    r"(?:(?P<seconds>\d+(?:\.\d{1,3})?)S)?)?)",
    re.ASCII,
)
_YEARS_OR_MONTHS = re.compile(r"P(\d+W)?(\d+Y(\d+M)?|\d+M)", re.ASCII)
_LONGEST_DURATION = 40
"""Characters: far more than `LONGEST` needs, and few enough for any arithmetic."""
_FORM = "an ISO 8601 duration of weeks, or of days, hours, minutes and seconds, such as 'PT5S', 'PT1H30M', 'P1D', 'P1W'"


def fold(expression: object) -> str:
    """The duration trimmed, in upper case, with a point before fractions. Nothing is converted: `PT90S` stays.

    Raises:
        InvalidInput: field `expression`, when it is no text or empty.
    """
    if not isinstance(expression, str) or not expression.strip():
        raise refuse(_FORM, expression)
    if len(expression) > LONGEST_EXPRESSION:
        raise refuse(f"at most {LONGEST_EXPRESSION} characters", expression[:60] + "…")
    return expression.strip().upper().replace(",", ".")


def period(expression: str) -> timedelta:
    """The elapsed time between two occurrences: `P1D` is 24 hours on every day of the year.

    At least 1 second, at most 3650 days, whole milliseconds.

    Raises:
        InvalidInput: field `expression`.
    """
    return _parse(fold(expression))


def interval_seconds(expression: str) -> float:
    """`period` in seconds, exact to the millisecond, for arithmetic in SQL.

    Raises:
        InvalidInput: field `expression`.
    """
    return period(expression).total_seconds()


@lru_cache(maxsize=4096)
def _parse(folded: str) -> timedelta:
    found = _DURATION.fullmatch(folded) if len(folded) <= _LONGEST_DURATION else None
    if found is None:
        raise refuse(_explain(folded), folded)
    return _check_bounds(_measure(found), folded)


def _measure(found: re.Match[str]) -> timedelta:
    parts = found.groupdict(default="0")
    whole, _, fraction = parts["seconds"].partition(".")
    try:
        return timedelta(
            weeks=int(parts["weeks"]),
            days=int(parts["days"]),
            hours=int(parts["hours"]),
            minutes=int(parts["minutes"]),
            seconds=int(whole),
            milliseconds=int(fraction.ljust(3, "0")),
        )
    except OverflowError:
        return timedelta.max


def _check_bounds(measured: timedelta, folded: str) -> timedelta:
    if measured < SHORTEST:
        raise refuse("a duration of at least 1 second ('PT1S')", folded)
    if measured > LONGEST:
        raise refuse("a duration of at most 10 years ('P3650D')", folded)
    return measured


def _explain(folded: str) -> str:
    if _YEARS_OR_MONTHS.match(folded):
        return "a duration without years and months (their length varies: use a crontab for those)"
    return _FORM
