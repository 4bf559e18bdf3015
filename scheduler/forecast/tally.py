"""Fires and starts, added up by minute, within bounds that are known before."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import nlargest
from itertools import islice

from scheduler.domain import ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.forecast.groups import Group, Scope, ask, find_groups
from scheduler.recurrence import Cadence, occurrences_between

MINUTE = timedelta(minutes=1)
_MOST_GROUPS = 10_000
"""An expression that was never seen before takes 0.3 ms to read: some 3 s, once for each process."""
_MOST_OCCURRENCES = 300_000
"""Of distinct cadences, 2 to 3 µs each."""
_MOST_CELLS = 3_000_000
"""Minutes of groups and of series that are added up: in Python 0.1 µs each, in the database some 0.5 µs."""
_MOST_NAMED = 3
"""Cadences that are named with a busy minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """Schedules of one cadence that are fired in a minute."""

    cadence: Cadence
    schedules: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """A minute ahead."""

    at: datetime
    fires: int
    starts: int
    largest: tuple[Contribution, ...] = ()
    """The crontabs that are fired in it, the most numerous first."""


@dataclass(frozen=True, slots=True)
class _Laid:
    """A cadence's occurrences, and the numbers of their minutes."""

    instants: list[datetime]
    minutes: list[int]


class Tally:
    """Counts by minute, and what may still be spent on them."""

    def __init__(self, since: datetime, minutes: int) -> None:
        self.since = since
        self.first_minute = since.replace(second=0, microsecond=0)
        self.until = self.first_minute + minutes * MINUTE
        self.fires, self.starts = [0] * minutes, [0] * minutes
        self.schedules = self.left_out = 0
        self._laid: dict[Cadence, _Laid | None] = {}
        self._groups: list[Group] = []
        self._occurrences, self._cells = _MOST_OCCURRENCES, _MOST_CELLS

    @property
    def cadences(self) -> int:
        """How many were evaluated."""
        return sum(laid is not None for laid in self._laid.values())

    def add_groups(self, scope: Scope) -> None:
        """Add the crontabs and the solar schedules: each group that can be afforded and evaluated."""
        groups, in_all = find_groups(scope, since=self.since, until=self.until, most=_MOST_GROUPS)
        counted = sum(group.schedules for group in groups if self._add_group(group))
        self.schedules += counted
        self.left_out += in_all - counted

    def add_grids(self, scope: Scope) -> None:
        """Add the intervals and the clocked schedules, which the database lays out."""
        bounds = {"since": self.since, "until": self.until, "first_minute": self.first_minute}
        parameters = {**scope.parameters(), **bounds, "minutes": len(self.fires), "most": _MOST_CELLS}
        for minute, fires, starts in ask("grid_fires", parameters):
            if minute is None:
                in_all, left_out = fires, starts
                self.schedules += in_all - left_out
                self.left_out += left_out
            else:
                self.fires[minute] += fires
                self.starts[minute] += starts

    def busiest(self, count: int) -> Iterator[Minute]:
        """The minutes of most fires, the busiest first; none without a fire."""
        for number in nlargest(count, range(len(self.fires)), key=lambda number: (self.fires[number], -number)):
            if self.fires[number]:
                at = self.first_minute + number * MINUTE
                largest = tuple(self._largest(number))
                yield Minute(at=at, fires=self.fires[number], starts=self.starts[number], largest=largest)

    def _add_group(self, group: Group) -> bool:
        laid = self._lay(group.cadence)
        if laid is None or len(laid.minutes) > self._cells:
            return False
        self._cells -= len(laid.minutes)
        self._groups.append(group)
        first, end = _part(group, laid)
        for number in islice(laid.minutes, first, end):
            self.fires[number] += group.schedules
        for number in self._start_minutes(group, laid, first, end):
            if number < len(self.starts):
                self.starts[number] += group.schedules
        return True

    def _start_minutes(self, group: Group, laid: _Laid, first: int, end: int) -> Iterator[int]:
        if group.cadence.kind is ScheduleKind.CRONTAB:
            later = group.delay // MINUTE
            return (number + later for number in islice(laid.minutes, first, end))
        return (self._number(at + group.delay) for at in islice(laid.instants, first, end))

    def _lay(self, cadence: Cadence) -> _Laid | None:
        """None: it means nothing, or has more occurrences than can be afforded."""
        if cadence not in self._laid:
            self._laid[cadence] = self._evaluate(cadence)
        return self._laid[cadence]

    def _evaluate(self, cadence: Cadence) -> _Laid | None:
        try:
            instants = list(islice(occurrences_between(cadence, self.since, self.until), self._occurrences + 1))
        except InvalidInput:
            return None
        if len(instants) > self._occurrences:
            return None
        self._occurrences -= len(instants)
        return _Laid(instants, [self._number(at) for at in instants])

    def _number(self, at: datetime) -> int:
        return (at - self.first_minute) // MINUTE

    def _largest(self, number: int) -> Iterator[Contribution]:
        counts: Counter[Cadence] = Counter()
        for group in self._groups:
            laid = self._laid[group.cadence]
            assert laid is not None  # only such groups are kept
            place, (first, end) = bisect_left(laid.minutes, number), _part(group, laid)
            if first <= place < end and laid.minutes[place] == number:
                counts[group.cadence] += group.schedules
        for cadence, schedules in counts.most_common(_MOST_NAMED):
            yield Contribution(cadence=cadence, schedules=schedules)


def _part(group: Group, laid: _Laid) -> tuple[int, int]:
    """Which of its cadence's occurrences are the group's: from, and to before."""
    first = 0 if group.starts_at is None else bisect_left(laid.instants, group.starts_at)
    end = len(laid.instants) if group.ends_at is None else bisect_left(laid.instants, group.ends_at)
    return first, end if group.remaining is None else min(end, first + group.remaining)
