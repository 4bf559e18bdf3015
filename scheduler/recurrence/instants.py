"""Instants: aware datetimes, and whole seconds since 1970-01-01 UTC, in which the evaluator counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scheduler.errors import InvalidInput

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(3000, 1, 1, tzinfo=UTC)
"""Asked is about instants in `EARLIEST <= instant < LATEST` only."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


def check(at: object, field: str) -> datetime:
    """The same instant.

    Raises:
        InvalidInput: `field`, for anything but an aware datetime between the years 1900 and 2999.
    """
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise InvalidInput(field=field, expected="a datetime with a time zone (an aware one)", got=at)
    if not EARLIEST <= at < LATEST:
        raise InvalidInput(field=field, expected="a datetime between the years 1900 and 2999", got=at)
    return at


def seconds_down(at: datetime) -> int:
    """Whole seconds, rounded down."""
    return (at - _EPOCH) // _SECOND


def seconds_up(at: datetime) -> int:
    """Whole seconds, rounded up."""
    return -((_EPOCH - at) // _SECOND)


def moment(seconds: int | None) -> datetime | None:
    """The datetime, in UTC; None stays None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
