"""A second, independent evaluator: it walks the UTC time line minute by minute and asks zoneinfo what the wall shows.

Slow and plain on purpose. It shares no code with `scheduler.recurrence` and takes sets of numbers, not expressions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
LONGEST_BRIDGED_GAP = timedelta(hours=3)


@dataclass(frozen=True)
class Sets:
    """What an expression names, as sets, with the two facts that its text decides."""

    minutes: frozenset[int]
    hours: frozenset[int]
    month_days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    both_days: bool
    wild: bool

    def name(self, wall: datetime) -> bool:
        if wall.minute not in self.minutes or wall.hour not in self.hours or wall.month not in self.months:
            return False
        by_date = wall.day in self.month_days
        by_weekday = wall.isoweekday() % 7 in self.weekdays
        return (by_date and by_weekday) if self.both_days else (by_date or by_weekday)


@lru_cache(maxsize=512)
def wall_clock(zone: str, start: datetime, minutes: int) -> list[tuple[datetime, datetime, datetime]]:
    """(UTC minute, what the wall shows, what it showed a minute before) for each minute of a window."""
    tz = ZoneInfo(zone)
    shown = [(start + step * MINUTE).astimezone(tz) for step in range(-1, minutes)]
    return [
        (start + step * MINUTE, now.replace(tzinfo=None), before.replace(tzinfo=None, fold=0))
        for step, (before, now) in enumerate(pairwise(shown))
    ]


def simulate(sets: Sets, zone: str, start: datetime, minutes: int) -> list[datetime]:
    """Every occurrence in `start <= instant < start + minutes`."""
    assert start.tzinfo is UTC
    return [instant for instant, wall, before in wall_clock(zone, start, minutes) if _occurs(sets, wall, before)]


def _occurs(sets: Sets, wall: datetime, before: datetime) -> bool:
    is_second_pass = wall.fold == 1
    if sets.name(wall) and (sets.wild or not is_second_pass):
        return True
    skipped = wall.replace(fold=0) - before - MINUTE
    if sets.wild or not timedelta(0) < skipped <= LONGEST_BRIDGED_GAP:
        return False
    return any(sets.name(before + step * MINUTE) for step in range(1, skipped // MINUTE + 1))


def find_changes(zone: str, year: int) -> list[datetime]:
    """The hours of a year (UTC) in which the zone's offset changes, to within one hour."""
    tz = ZoneInfo(zone)
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=step) for step in range(366)]
    offsets = [day.astimezone(tz).utcoffset() for day in days]
    changed = [day for day, one, other in zip(days, offsets, offsets[1:], strict=False) if one != other]
    hours = [day + timedelta(hours=step) for day in changed for step in range(24)]
    return [
        hour for hour in hours if hour.astimezone(tz).utcoffset() != (hour + 60 * MINUTE).astimezone(tz).utcoffset()
    ]
