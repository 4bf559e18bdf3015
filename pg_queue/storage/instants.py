"""Instants as whole microseconds since 1970, for stores whose servers have no such type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(duration: timedelta | float) -> int:
    """A duration (a number is one of seconds) in microseconds."""
    return round(duration * 1_000_000) if isinstance(duration, int | float) else duration // _MICROSECOND


def as_microseconds(instant: datetime) -> int:
    """The instant, which must be aware."""
    return (instant - _EPOCH) // _MICROSECOND


def to_instant(stored: int | str) -> datetime:
    """The instant of a number, or of its digits. Raises: ValueError, OverflowError for what is none."""
    return _EPOCH + timedelta(microseconds=int(stored))
