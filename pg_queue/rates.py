"""`PG_QUEUE["RATE_LIMITS"]`: how often messages of a queue may begin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pg_queue.domain import RateLimit
from pg_queue.errors import Configuration

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MOST_A_SECOND = 1_000_000

_RATE = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,5})?([smhd])", re.ASCII)
_BURST = re.compile(r"[1-9]\d{0,8}", re.ASCII)
_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,127}")
EXPECTED = "a rate such as '100/m', '5/s' or '1/10s', or one with a burst, such as '100/m burst 20'"


def parse_limits(raw: Mapping[Any, object]) -> Mapping[str, RateLimit]:
    """The limits by queue. Raises: Configuration naming the queue, what was expected and what was got."""
    for queue in raw:
        if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
            raise Configuration(f"PG_QUEUE['RATE_LIMITS']: expected names of queues as keys, got: {queue!r}")
    return {queue: _parsed(queue, rate) for queue, rate in raw.items()}


def parse_rate(text: str) -> RateLimit | None:
    """The limit that a text says; None: it says none.

    Without a burst, as many may begin at once as come back in a second, at least one: the rest of the time evenly.
    """
    rate, _, burst = text.strip().partition(" burst ")
    found = _RATE.fullmatch(rate)
    if found is None or (burst and not _BURST.fullmatch(burst)):
        return None
    count, period = int(found[1]), int(found[2] or 1) * UNITS[found[3]]
    if count / period > MOST_A_SECOND:
        return None
    return RateLimit(count=count, period_seconds=period, burst=int(burst or max(1, count // period)))


def _parsed(queue: str, rate: object) -> RateLimit:
    limit = parse_rate(rate) if isinstance(rate, str) else None
    if limit is None:
        raise Configuration(f"PG_QUEUE['RATE_LIMITS'][{queue!r}]: expected {EXPECTED}, got: {rate!r}")
    return limit
