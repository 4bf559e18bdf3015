"""Schedules laid out in Python, for a database that has no statement for it: a desktop's, with thousands of them.

It answers what the statements of `sql/postgres/forecast.sql` answer, by their names and in their columns. Instants are
microseconds since 1970; so are periods and delays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, Q

from scheduler.domain import Firer, ScheduleKind, jitter_of
from scheduler.models import PgPeriodicSchedule
from scheduler.settings import scheduler_settings

_MINUTE, _DAY = 60_000_000, 86_400_000_000
_SHORTEST_SECONDS = 0.001
Answer = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """An interval, or a clocked schedule, which occurs once."""

    period: int
    next_at: int
    ends_at: int | None
    remaining: int | None
    delay: int

    def steps(self, first: int) -> int | None:
        """How many occurrences there are from `first` on; None: no end of them."""
        bounds = [] if self.remaining is None else [self.remaining]
        if self.ends_at is not None:
            bounds.append(max(0, -((first - self.ends_at) // self.period)))
        return min(bounds, default=None)


@dataclass(frozen=True, slots=True)
class _Series:
    """Occurrences that fall into the same minutes."""

    is_start: bool
    period: int
    base: int
    steps: int | None


def cadences(asked: Mapping[str, Any]) -> Answer:
    """Crontabs and solar schedules by when they occur, the most numerous first."""
    since, until = asked["since"], asked["until"]
    rows = _counted(asked).exclude(kind__in=_ON_GRID).filter(next_run_at__lt=until)
    found = Counter(_key(row, since, until) for row in rows)
    in_all = sum(found.values())
    most = sorted(found.items(), key=lambda one: (-one[1], *one[0][:5]))[: asked["most"]]
    return [(*key, count, in_all) for key, count in most]


def grid_fires(asked: Mapping[str, Any]) -> Answer:
    """Fires and starts of intervals and clocked schedules by minute; where the minute is None, how many were looked at
    and how many were left out."""
    since, origin, minutes = _at(asked["since"]), _at(asked["first_minute"]), asked["minutes"]
    grids = list(_grids(asked, since=asked["since"], until=asked["until"]))
    series = Counter(one for grid in grids for one in _sides(grid, since))
    counts: dict[int, list[int]] = {}
    left, left_out = asked["most"], 0
    costs = {one: _cells(one, origin, minutes) for one in series}
    for one, schedules in sorted(series.items(), key=lambda item: (-item[1], costs[item[0]], *_order(item[0]))):
        cells = costs[one]
        left -= cells
        if left < 0:
            left_out += 0 if one.is_start else schedules
            continue
        for minute, fires in _laid_out(one, origin, minutes, cells):
            counts.setdefault(minute, [0, 0])[one.is_start] += fires * schedules
    return [*((minute, *both) for minute, both in sorted(counts.items())), (None, len(grids), left_out)]


def grids_beginning(asked: Mapping[str, Any]) -> Answer:
    """How many intervals and clocked schedules begin at least once in the minute from each of these instants."""
    grids = list(_grids(asked))
    return [
        (position, count)
        for position, minute in enumerate(asked["minutes"], start=1)
        if (count := sum(_begins(grid, _at(minute)) for grid in grids))
    ]


ANSWERS: Mapping[str, Callable[[Mapping[str, Any]], Answer]] = {
    "cadences": cadences,
    "grid_fires": grid_fires,
    "grids_beginning": grids_beginning,
}
_ON_GRID = (ScheduleKind.INTERVAL.value, ScheduleKind.CLOCKED.value)


def _counted(asked: Mapping[str, Any]) -> Any:
    rows = PgPeriodicSchedule.objects.using(scheduler_settings().database)
    rows = rows.filter(enabled=True, quarantined_at__isnull=True, next_run_at__isnull=False)
    if asked["organizations"] is not None:
        rows = rows.for_organizations(asked["organizations"])
    return rows.exclude(pk=asked["excluded"]) if asked["excluded"] else rows


def _key(row: PgPeriodicSchedule, since: datetime, until: datetime) -> tuple[Any, ...]:
    delay = _delay(row)
    return (
        *(row.kind, row.cron_string, row.timezone, row.dialect),
        delay // 60_000 * 60_000 if row.kind == ScheduleKind.CRONTAB else delay,
        row.starts_at if row.starts_at is not None and row.starts_at > since else None,
        row.ends_at if row.ends_at is not None and row.ends_at < until else None,
        None if row.run_limit is None else row.run_limit - row.run_count,
    )


def _delay(row: PgPeriodicSchedule) -> int:
    """Milliseconds."""
    is_prompt = not row.jitter_seconds or row.firer == Firer.BEAT
    return 0 if is_prompt else jitter_of(row.pipeline_id, row.jitter_seconds) // timedelta(milliseconds=1)


def _grids(asked: Mapping[str, Any], since: datetime | None = None, until: datetime | None = None) -> Iterator[_Grid]:
    is_on_grid = Q(kind=ScheduleKind.CLOCKED.value) | Q(
        kind=ScheduleKind.INTERVAL.value, interval_seconds__gte=_SHORTEST_SECONDS
    )
    rows = _counted(asked).filter(is_on_grid).annotate(left=F("run_limit") - F("run_count"))
    if since is not None and until is not None:
        rows = rows.exclude(kind=ScheduleKind.CLOCKED.value, next_run_at__lt=since).filter(next_run_at__lt=until)
    for row in rows:
        is_once = row.kind == ScheduleKind.CLOCKED
        is_ending = row.ends_at is not None and (until is None or row.ends_at < until)
        yield _Grid(
            period=_DAY if is_once else round(row.interval_seconds * 1e6),
            next_at=_at(row.next_run_at),
            ends_at=_at(row.ends_at) if is_ending else None,
            remaining=1 if is_once else row.left,
            delay=_delay(row) * 1000,
        )


def _sides(grid: _Grid, since: int) -> Iterator[_Series]:
    """The series of its fires and of its starts. A period of whole minutes does not depend on the second, nor one of
    whole seconds on the fraction."""
    behind = max(0, since - grid.next_at)
    first = grid.next_at + -(-behind // grid.period) * grid.period
    unit = next((size for size in (_MINUTE, 1_000_000) if grid.period % size == 0), 1)
    for is_start in (False, True):
        at = first + (grid.delay if is_start else 0)
        yield _Series(is_start, grid.period, at // unit * unit, grid.steps(first))


def _order(series: _Series) -> tuple[Any, ...]:
    return series.period, series.base, series.steps is None, series.steps or 0, series.is_start


def _cells(series: _Series, origin: int, minutes: int) -> int:
    """What it costs to lay it out."""
    if series.period < _MINUTE:
        return minutes
    ahead = -(-(origin + minutes * _MINUTE - series.base) // series.period)
    return max(0, ahead if series.steps is None else min(series.steps, ahead))


def _laid_out(series: _Series, origin: int, minutes: int, cells: int) -> Iterator[tuple[int, int]]:
    """Minutes, and how often it occurs in each."""
    if series.period >= _MINUTE:
        for step in range(cells):
            minute = (series.base + step * series.period - origin) // _MINUTE
            if 0 <= minute < minutes:
                yield minute, 1
        return
    before = _so_far(series, origin)
    for minute in range(minutes):
        after = _so_far(series, origin + (minute + 1) * _MINUTE)
        if after > before:
            yield minute, after - before
        before = after


def _so_far(series: _Series, until: int) -> int:
    """Occurrences before an instant."""
    count = max(0, -(-(until - series.base) // series.period))
    return count if series.steps is None else min(series.steps, count)


def _begins(grid: _Grid, minute: int) -> bool:
    series = _Series(True, grid.period, grid.next_at + grid.delay, grid.steps(grid.next_at))
    return _so_far(series, minute + _MINUTE) > _so_far(series, minute)


def _at(instant: datetime) -> int:
    return int(instant.timestamp()) * 1_000_000 + instant.microsecond
