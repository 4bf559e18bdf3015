"""Whether a schedule joins a herd: a minute that many others begin in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from scheduler import clock
from scheduler.errors import InvalidInput
from scheduler.forecast.groups import Group, Scope, ask, find_groups
from scheduler.settings import scheduler_settings

OCCURRENCES = 10
"""How many of a schedule's next occurrences are looked at."""
_MOST_GROUPS = 1000
"""An expression that was never seen before takes 0.3 ms to read, another 10 µs for each of the minutes."""
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """A minute that many begin in."""

    at: datetime
    """The minute, in UTC."""
    others: int
    """Schedules that begin in it, at least."""
    jitter_seconds: int | None
    """With so much jitter the schedule would most likely begin elsewhere; None: it occurs too often for that."""

    @property
    def sentence(self) -> str:
        """For people."""
        told = f"{self.others} other schedules begin in the same minute as this one, {self.at:%Y-%m-%d %H:%M} UTC."
        if self.jitter_seconds is None:
            return f"{told} It occurs too often for a jitter to part it from them: begin at another minute."
        return f"{told} A jitter of {self.jitter_seconds} seconds, or another minute, would part it from them."


def find_herd(occurrences: Sequence[datetime], *, jitter_seconds: int = 0, scope: Scope | None = None) -> Herd | None:
    """The busiest minute of a schedule's next ten occurrences; None where no more than `HERD_WARNING` begin in each.

    `scope` says which others are counted. One whose jitter is a minute or more has no herd: it spreads by itself. Reads
    only.
    """
    minutes = sorted({at.replace(second=0, microsecond=0) for at in occurrences[:OCCURRENCES]})
    if not minutes or jitter_seconds >= _MINUTE.total_seconds():
        return None
    counts = _count(minutes, scope or Scope())
    at, others = max(zip(minutes, counts, strict=True), key=lambda one: one[1])
    limit = scheduler_settings().herd_warning
    if others <= limit:
        return None
    return Herd(at=at, others=others, jitter_seconds=_suggest(others, limit, occurrences))


def _count(minutes: list[datetime], scope: Scope) -> list[int]:
    now = clock.now(scheduler_settings().database)
    groups, _ = find_groups(scope, since=now, until=minutes[-1] + _MINUTE, most=_MOST_GROUPS)
    counts = [sum(group.schedules for group in groups if _begins(group, minute, now)) for minute in minutes]
    for position, more in ask("grids_beginning", {**scope.parameters(), "minutes": minutes}):
        counts[position - 1] += more
    return counts


def _begins(group: Group, minute: datetime, now: datetime) -> bool:
    try:
        return group.begins_within(minute, now)
    except InvalidInput:
        return False  # a row that means nothing: the tick sets it aside


def _suggest(others: int, limit: int, occurrences: Sequence[datetime]) -> int | None:
    """Minutes enough for all of them, if they did the same; at most half of what lies between two occurrences."""
    wanted = -(-(others + 1) // limit) * int(_MINUTE.total_seconds())
    gaps = [int((after - before).total_seconds()) for before, after in pairwise(occurrences[:OCCURRENCES])]
    suggested = min([wanted, *(gap // 2 for gap in gaps)])
    return suggested if suggested >= _MINUTE.total_seconds() else None
