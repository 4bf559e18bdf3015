"""Clocked expressions: one instant, written as in ISO 8601, at which a schedule occurs once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from scheduler.recurrence.fields import LONGEST_EXPRESSION, refuse
from scheduler.recurrence.instants import EARLIEST, LATEST

_INSTANT = re.compile(
    r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,6})?)?(?P<offset>Z|[+-]\d{2}(?::?\d{2})?)?", re.ASCII
)
_FORM = (
    "an ISO 8601 instant with its offset from UTC, such as '2026-12-01T10:00:00Z' or '2026-12-01T11:00:00+01:00', "
    "at most six digits after the second"
)


@dataclass(frozen=True, slots=True)
class Once:
    """The one occurrence of a clocked expression."""

    occurs_at: datetime

    def following(self, at: datetime) -> datetime | None:
        """It, where it lies after `at`."""
        return self.occurs_at if self.occurs_at > at else None

    def preceding(self, at: datetime) -> datetime | None:
        """It, where it lies at or before `at`."""
        return self.occurs_at if self.occurs_at <= at else None

    def count(self, start: datetime, end: datetime) -> int:
        """1 where it lies in `start <= occurrence < end`, else 0."""
        return int(start <= self.occurs_at < end)


def fold(expression: object) -> str:
    """The instant in UTC: `2026-12-01T10:00:00Z`, with six digits after the second where it has a fraction.

    Raises:
        InvalidInput: field `expression`, when it is no instant with an offset, or outside the years 1900 to 2999.
    """
    if not isinstance(expression, str) or not expression.strip():
        raise refuse(_FORM, expression)
    if len(expression) > LONGEST_EXPRESSION:
        raise refuse(f"at most {LONGEST_EXPRESSION} characters", expression[:60] + "…")
    return spell(_read(expression.strip().upper()))


def spell(instant: datetime) -> str:
    """The normalised expression of an aware instant."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


@lru_cache(maxsize=4096)
def parse(expression: str) -> Once:
    """The occurrence that an expression names.

    Raises:
        InvalidInput: as `fold` does.
    """
    return Once(datetime.fromisoformat(fold(expression)))


def _read(text: str) -> datetime:
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise refuse(_FORM, text)
    if found["offset"] is None:
        raise refuse("an instant with its offset from UTC: add 'Z' for UTC, or an offset such as '+01:00'", text)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:  # no such day or hour
        raise refuse(_FORM, text) from None
    if not EARLIEST <= instant < LATEST:
        raise refuse("an instant between the years 1900 and 2999", text)
    return instant
