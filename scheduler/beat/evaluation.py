"""When Celery Beat itself would send: Celery's own schedule classes, driven with a clock of ours.

None of Celery's rules is written down here. Each of its schedules is asked, as Beat asks it, how long it is from the
last send until the next; the clock is then set to that instant, and it is asked again. So the answer is that of a Beat
which is never late and never down.

Celery is imported inside functions: schedules can be kept, and fired by PG, without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from importlib.util import find_spec
from itertools import islice
from typing import Any

from scheduler.beat.expressions import BeatCadence, BeatClocked, BeatCrontab, BeatInterval, BeatSolar
from scheduler.errors import InvalidInput
from scheduler.recurrence.instants import check
from scheduler.recurrence.zones import time_line

_LOOP = timedelta(seconds=1)
"""How soon a Beat that finds a schedule due again at once is taken to look again. (It needs milliseconds.)"""
_LAST_YEAR = 9900
"""Celery's search may reach 41 years ahead, and the calendar ends with 9999."""
_NOW = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatSchedule:
    """When a `PeriodicTask` is due, as Beat holds it."""

    times: BeatCadence
    timezone: str = "UTC"
    """An IANA zone; only a crontab looks at it."""


def is_celery_installed() -> bool:
    """Whether there is an evaluator to ask."""
    return find_spec("celery") is not None


def beat_occurrences(schedule: BeatSchedule, *, after: datetime, count: int) -> list[datetime]:
    """The first `count` instants at which a punctual Celery Beat sends, in UTC, earliest first.

    `after` is its `last_run_at`, and what its clock shows first. Fewer than `count` only for a clocked schedule, which
    Beat sends once, and where the calendar ends. Some 20 to 60 µs each, a solar one 0.2 ms.

    Raises:
        InvalidInput: field `after` or `timezone`; field `expression` for what Celery does not accept; field `kind` for
            a solar one where ephem is not installed.
    """
    return list(islice(beat_upcoming(schedule, after), count))


def beat_upcoming(schedule: BeatSchedule, after: datetime) -> Iterator[datetime]:
    """The same one by one, without end but for the calendar's.

    Whatever `beat_occurrences` raises is raised when the first is asked for.
    """
    zone = time_line(schedule.timezone).zone
    clock = _Clock(check(after, "after"), zone)
    times = _build(schedule, clock)
    while clock.at.year < _LAST_YEAR:
        remaining = times.remaining_estimate(clock.at)
        clock.advance(remaining if remaining > _NOW else _LOOP)
        yield clock.at.astimezone(UTC)
        if isinstance(schedule.times, BeatClocked):
            return


class _Clock:
    """What Beat's clock shows."""

    def __init__(self, at: datetime, zone: tzinfo) -> None:
        self.zone = zone
        self.at = at.astimezone(zone)

    def __call__(self) -> datetime:
        return self.at

    def advance(self, elapsed: timedelta) -> None:
        self.at = (self.at.astimezone(UTC) + elapsed).astimezone(self.zone)


def _build(schedule: BeatSchedule, clock: _Clock) -> Any:
    from celery.exceptions import ImproperlyConfigured
    from celery.schedules import ParseException

    try:
        built = _build_celerys(schedule.times, clock)
    except ImproperlyConfigured as error:
        raise InvalidInput(field="kind", expected="ephem to be installed for a solar schedule", got="solar") from error
    except (ParseException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidInput(field="expression", expected=f"what Celery accepts ({error})", got=schedule.times) from error
    built.tz = clock.zone  # as dcb's TzAwareCrontab does; else Celery would ask the current app
    return built


def _build_celerys(times: BeatCadence, clock: _Clock) -> Any:
    from celery import schedules

    if isinstance(times, BeatCrontab):
        return schedules.crontab(
            minute=times.minute,
            hour=times.hour,
            day_of_month=times.day_of_month,
            month_of_year=times.month_of_year,
            day_of_week=times.day_of_week,
            nowfun=clock,
        )
    if isinstance(times, BeatInterval):
        return schedules.schedule(timedelta(**{times.period: times.every}), nowfun=clock)
    if isinstance(times, BeatSolar):
        return schedules.solar(times.event, times.latitude, times.longitude, nowfun=clock)  # type: ignore[arg-type]
    from django_celery_beat.clockedschedule import clocked

    return clocked(times.clocked_time, nowfun=clock)
