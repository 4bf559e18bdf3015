"""Until when a message may be begun. Its header `expires_at` says so, as an ISO 8601 instant with an offset."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pg_queue.domain import Json
from pg_queue.errors import InvalidMessage

EXPIRES_AT = "expires_at"
MOST = timedelta(days=3653)
"""Ten years: a later instant is a mistake."""
_SPAN = "a timedelta or a number of seconds above 0"


def with_expiry(headers: Mapping[str, Json], expires: object, run_after: object) -> dict[str, Json]:
    """The headers with the instant until which the message may be begun.

    `expires` is that instant, or a span from `run_after` on; where that is None, from now on by this process's clock.
    Raises: InvalidMessage (field `expires`).
    """
    if isinstance(expires, datetime):
        if expires.utcoffset() is None:
            raise InvalidMessage(field="expires", expected="an aware datetime (with a timezone)", got=expires)
        return {**headers, EXPIRES_AT: expires.isoformat()}
    span = span_of(expires)
    if not span:
        raise InvalidMessage(field="expires", expected=f"an aware datetime, {_SPAN}, or None", got=expires)
    now = datetime.now(UTC)
    base = max(now, run_after) if isinstance(run_after, datetime) and run_after.utcoffset() is not None else now
    return {**headers, EXPIRES_AT: (base + span).isoformat()}


def expiry_of(headers: Mapping[str, Json]) -> datetime | None:
    """Until when the message may be begun; None: for ever. Raises: InvalidMessage (field `headers`)."""
    if EXPIRES_AT not in headers:
        return None
    text = headers[EXPIRES_AT]
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        found = None
    if found is None or found.utcoffset() is None:
        expected = f"an ISO 8601 instant with an offset as {EXPIRES_AT!r}"
        raise InvalidMessage(field="headers", expected=expected, got=text)
    return found


def span_of(value: Any) -> timedelta | None:
    """A timedelta, or a number of seconds, as a timedelta; None for what is none, negative, or longer than `MOST`."""
    if isinstance(value, bool):
        return None
    try:
        found = value if isinstance(value, timedelta) else timedelta(seconds=float(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if timedelta() <= found <= MOST else None
