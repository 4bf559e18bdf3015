"""The wall clock of a crontab: which minutes of which days it names, with no zone and no clock change.

Sets are bit masks (bit `n` stands for the value `n`), because the tick steps through them far more often than it reads
them: the next hour is a shift and a count of zeros, where `croniter.get_next` takes about 100 µs. croniter stays the
parser, and the tests compare this stepping with its own.

A wall minute is an int: minutes since 1970-01-01 00:00 on the wall, as if the wall were UTC.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import TypeVar

MINUTES_IN_DAY = 1440
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
ALL_WEEKDAYS = (1 << 7) - 1

HORIZON_MONTHS = 41 * 12
"""How far a search goes. The longest wait of any possible crontab is 40 years: 29 February on one weekday across a
century that has no leap day (2072 to 2112)."""

LAST_WEEK = -1
"""The `week` of a `WeekdayOfMonth` that means the last one of the month."""

MOST_REMEMBERED = 12
"""Answers kept by each pattern and question."""

Key = TypeVar("Key")
Value = TypeVar("Value")

WeekdayOfMonth = tuple[int, int]
"""(weekday with Sunday 0, which one of the month: 1 to 5 or `LAST_WEEK`)."""


def mask_of(values: Iterable[int]) -> int:
    """A bit mask with a bit set for each of `values`."""
    mask = 0
    for value in values:
        mask |= 1 << value
    return mask


def lowest_from(mask: int, start: int) -> int | None:
    """The smallest value of `mask` that is at least `start`, or None."""
    rest = mask >> start
    return start + (rest & -rest).bit_length() - 1 if rest else None


def highest_to(mask: int, end: int) -> int | None:
    """The largest value of `mask` that is at most `end`, or None."""
    rest = mask & ((2 << end) - 1)
    return highest(rest) if rest else None


def lowest(mask: int) -> int:
    """The smallest value of `mask`, which is not empty."""
    return (mask & -mask).bit_length() - 1


def highest(mask: int) -> int:
    """The largest value of `mask`, which is not empty."""
    return mask.bit_length() - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRule:
    """The days a crontab names: its day-of-month, month and day-of-week fields together."""

    months: int
    """Mask of 1 to 12."""
    month_days: int
    """Mask of 1 to 31."""
    is_last_day_named: bool
    """Whether the last day of the month belongs to the days of the month (`L`)."""
    weekdays: int
    """Mask of 0 (Sunday) to 6; ignored where `weekdays_of_month` is set."""
    weekdays_of_month: frozenset[WeekdayOfMonth]
    """Weekdays by their place in the month (`2#3`, `L5`)."""
    is_both_required: bool
    """Whether a day must satisfy both day fields, or either."""
    _masks: dict[tuple[int, int], int] = field(default_factory=dict, compare=False, repr=False)
    _firsts: dict[int, int | None] = field(default_factory=dict, compare=False, repr=False)
    _lasts: dict[int, int | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_every_day(self) -> bool:
        """Whether no day is left out, so that no calendar needs to be looked at."""
        every_month_day = self.month_days == mask_of(range(1, 32))
        every_weekday = self.weekdays == ALL_WEEKDAYS and not self.weekdays_of_month
        return self.months == mask_of(range(1, 13)) and every_month_day and every_weekday

    @property
    def is_possible(self) -> bool:
        """Whether any day at all is named: searched through one whole horizon, which begins with a leap year."""
        return any(self.days_in(2000 + index // 12, index % 12 + 1) for index in range(HORIZON_MONTHS))

    def holds(self, day: int) -> bool:
        """Whether this day (since 1970-01-01) is named."""
        on = date.fromordinal(EPOCH_ORDINAL + day)
        return bool(self.days_in(on.year, on.month) >> on.day & 1)

    def first_from(self, day: int) -> int | None:
        """The earliest named day at or after `day`; None when the horizon holds none."""
        return _remember(self._firsts, day, self._find_first_from)

    def last_to(self, day: int) -> int | None:
        """The latest named day at or before `day`; None when the horizon holds none."""
        return _remember(self._lasts, day, self._find_last_to)

    def days_in(self, year: int, month: int) -> int:
        """Mask of the days of this month that are named."""
        if not self.months >> month & 1:
            return 0
        return _remember(self._masks, (year, month), self._find_days)

    def _find_first_from(self, day: int) -> int | None:
        on = date.fromordinal(EPOCH_ORDINAL + day)
        found = lowest_from(self.days_in(on.year, on.month), on.day)
        if found is not None:
            return day + found - on.day
        month = on.year * 12 + on.month
        return self._find_in(range(month, month + HORIZON_MONTHS), lowest)

    def _find_last_to(self, day: int) -> int | None:
        on = date.fromordinal(EPOCH_ORDINAL + day)
        found = highest_to(self.days_in(on.year, on.month), on.day)
        if found is not None:
            return day + found - on.day
        month = on.year * 12 + on.month - 2
        return self._find_in(range(month, month - HORIZON_MONTHS, -1), highest)

    def _find_in(self, months: range, choose: Callable[[int], int]) -> int | None:
        """The chosen day of the first of `months` (counted from year 0) that has a named one."""
        for year, month in (divmod(number, 12) for number in months):
            mask = self.days_in(year, month + 1)
            if mask:
                return date(year, month + 1, choose(mask)).toordinal() - EPOCH_ORDINAL
        return None

    def _find_days(self, year_and_month: tuple[int, int]) -> int:
        year, month = year_and_month
        first, length = monthrange(year, month)
        first_weekday = (first + 1) % 7
        by_month_day = self.month_days | (1 << length if self.is_last_day_named else 0)
        by_weekday = self._find_weekdays(first_weekday, length)
        both = by_month_day & by_weekday if self.is_both_required else by_month_day | by_weekday
        return both & ((2 << length) - 2)

    def _find_weekdays(self, first_weekday: int, length: int) -> int:
        if self.weekdays_of_month:
            return mask_of(_find_nth(nth, first_weekday, length) for nth in self.weekdays_of_month)
        return mask_of(day for day in range(1, length + 1) if self.weekdays >> (first_weekday + day - 1) % 7 & 1)


def _remember(known: dict[Key, Value], key: Key, find: Callable[[Key], Value]) -> Value:
    """`find(key)`, kept: a tick asks every cadence about the same few days. Small, as there is one for each pattern."""
    try:
        return known[key]
    except KeyError:
        if len(known) >= MOST_REMEMBERED:
            known.clear()
        value = known[key] = find(key)
        return value


def _find_nth(nth: WeekdayOfMonth, first_weekday: int, length: int) -> int:
    """The day of the month; beyond the month's end where it has no such day."""
    weekday, week = nth
    day = 1 + (weekday - first_weekday) % 7
    return day + (length - day) // 7 * 7 if week == LAST_WEEK else day + (week - 1) * 7


@dataclass(frozen=True, slots=True, kw_only=True)
class WallPattern:
    """The wall minutes a crontab names."""

    minutes: int
    """Mask of 0 to 59."""
    hours: int
    """Mask of 0 to 23."""
    days: DayRule
    is_every_day: bool
    """`days.is_every_day`, kept because the hot path asks it."""
    is_wild: bool
    """Whether the minute or the hour field begins with `*`: decides what a clock change does to it."""

    def first_from(self, minute: int) -> int | None:
        """The earliest named wall minute at or after `minute`; None when the horizon holds none."""
        day, minute_of_day = divmod(minute, MINUTES_IN_DAY)
        if self.is_every_day or self.days.holds(day):
            found = self._first_in_day(minute_of_day)
            if found is not None:
                return day * MINUTES_IN_DAY + found
        next_day = day + 1 if self.is_every_day else self.days.first_from(day + 1)
        if next_day is None:
            return None
        return next_day * MINUTES_IN_DAY + lowest(self.hours) * 60 + lowest(self.minutes)

    def last_to(self, minute: int) -> int | None:
        """The latest named wall minute at or before `minute`; None when the horizon holds none."""
        day, minute_of_day = divmod(minute, MINUTES_IN_DAY)
        if self.is_every_day or self.days.holds(day):
            found = self._last_in_day(minute_of_day)
            if found is not None:
                return day * MINUTES_IN_DAY + found
        last_day = day - 1 if self.is_every_day else self.days.last_to(day - 1)
        if last_day is None:
            return None
        return last_day * MINUTES_IN_DAY + highest(self.hours) * 60 + highest(self.minutes)

    def count(self, start: int, end: int) -> int:
        """How many named wall minutes lie in `start <= minute < end`."""
        if end <= start:
            return 0
        first_day, first_minute = divmod(start, MINUTES_IN_DAY)
        last_day, last_minute = divmod(end, MINUTES_IN_DAY)
        per_day = self.minutes.bit_count() * self.hours.bit_count()
        total = per_day * self._count_days(first_day, last_day)
        if self.days.holds(first_day):
            total -= self._count_in_day(first_minute)
        if last_minute and self.days.holds(last_day):
            total += self._count_in_day(last_minute)
        return total

    def _first_in_day(self, minute_of_day: int) -> int | None:
        hour, minute = divmod(minute_of_day, 60)
        if self.hours >> hour & 1:
            found = lowest_from(self.minutes, minute)
            if found is not None:
                return hour * 60 + found
        next_hour = lowest_from(self.hours, hour + 1)
        return None if next_hour is None else next_hour * 60 + lowest(self.minutes)

    def _last_in_day(self, minute_of_day: int) -> int | None:
        hour, minute = divmod(minute_of_day, 60)
        if self.hours >> hour & 1:
            found = highest_to(self.minutes, minute)
            if found is not None:
                return hour * 60 + found
        last_hour = highest_to(self.hours, hour - 1) if hour else None
        return None if last_hour is None else last_hour * 60 + highest(self.minutes)

    def _count_in_day(self, minute_of_day: int) -> int:
        """How many named minutes of a day lie before `minute_of_day`."""
        hour, minute = divmod(minute_of_day, 60)
        whole_hours = (self.hours & ((1 << hour) - 1)).bit_count() * self.minutes.bit_count()
        return whole_hours + (self.hours >> hour & 1) * (self.minutes & ((1 << minute) - 1)).bit_count()

    def _count_days(self, start: int, end: int) -> int:
        """How many named days lie in `start <= day < end`."""
        if self.is_every_day:
            return end - start
        return sum(self.days.holds(day) for day in range(start, end))


def build_pattern(*, texts: Sequence[str], minutes: int, hours: int, days: DayRule) -> WallPattern:
    """The pattern of five parsed fields, `texts` being their text. Patterns with the same days share one rule."""
    shared_days = _share(days)
    return WallPattern(
        minutes=minutes,
        hours=hours,
        days=shared_days,
        is_every_day=shared_days.is_every_day,
        is_wild=texts[0].startswith("*") or texts[1].startswith("*"),
    )


@lru_cache(maxsize=4096)
def _share(days: DayRule) -> DayRule:
    return days
