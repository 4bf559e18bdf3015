"""How Celery Beat spells a schedule's expression, None where it cannot say the same; and what its spelling means here.

A crontab is compared by what it names, not by its text: where Celery reads our text and names the same, the text is
kept; otherwise each field is written out as a list of numbers. What Beat cannot hold:

- day-of-month and day-of-week both restricted in the `unix` dialect, where either is enough (Celery wants both);
- the last day of a month (`L`), a weekday by its place in the month (`2#2`, `L5`);
- an interval of fractions of a second over 35 minutes (its column counts microseconds in 32 bits).

At a clock change Beat follows its own rules whatever the text: see `docs/reference/cron.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from scheduler.domain import CronDialect, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.recurrence import celery_grammar, fields, normalise, period, unix_grammar
from scheduler.recurrence.walltime import DayRule, WallPattern

_EVERY_MONTH_DAY = sum(1 << day for day in range(1, 32))
_EVERY_WEEKDAY = (1 << 7) - 1
_WIDTHS = (240, 96, 124, 64, 64)
"""Characters of dcb's five columns."""
_LARGEST_INTEGER = 2**31 - 1
_UNITS = (("days", 86_400_000_000), ("hours", 3_600_000_000), ("minutes", 60_000_000), ("seconds", 1_000_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatCrontab:
    """The columns of dcb's `CrontabSchedule`, without the timezone."""

    minute: str
    hour: str
    day_of_month: str
    month_of_year: str
    day_of_week: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatInterval:
    """The columns of dcb's `IntervalSchedule`."""

    every: int
    period: str
    """`days`, `hours`, `minutes`, `seconds` or `microseconds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatClocked:
    """The columns of dcb's `ClockedSchedule`."""

    clocked_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatSolar:
    """The columns of dcb's `SolarSchedule`."""

    event: str
    latitude: Decimal
    """Degrees, six decimals."""
    longitude: Decimal


BeatCadence = BeatCrontab | BeatInterval | BeatClocked | BeatSolar
"""A row of one of dcb's four tables."""


def beat_crontab(expression: str, dialect: str) -> BeatCrontab | None:
    """The crontab as Beat can hold it with the same meaning; None: it cannot.

    Raises:
        InvalidInput: the expression means nothing in its dialect.
    """
    folded = fields.fold(expression)
    is_celery = dialect == CronDialect.CELERY
    pattern = celery_grammar.parse(folded) if is_celery else unix_grammar.parse(folded)
    days = _both_days(pattern.days)
    if days is None:
        return None
    texts = fields.split(folded)
    if not _is_read_alike(folded, pattern, days) or not _fits(texts):
        texts = _spell(pattern, days)
    return BeatCrontab(
        minute=texts[0], hour=texts[1], day_of_month=texts[2], month_of_year=texts[3], day_of_week=texts[4]
    )


def literal_crontab(expression: str) -> BeatCrontab | None:
    """The same five fields as Celery reads them, whatever they mean here; None: it refuses them, or they never are."""
    texts = fields.split(fields.fold(expression))
    try:
        days = celery_grammar.parse(" ".join(texts)).days
    except InvalidInput:
        return None
    if not days.is_possible or not _fits(texts):
        return None
    return BeatCrontab(
        minute=texts[0], hour=texts[1], day_of_month=texts[2], month_of_year=texts[3], day_of_week=texts[4]
    )


def beat_interval(expression: str) -> BeatInterval | None:
    """The interval in the largest unit that divides it; None: Beat's column cannot hold it."""
    microseconds = period(expression) // timedelta(microseconds=1)
    for unit, size in _UNITS:
        if microseconds % size == 0:
            return BeatInterval(every=microseconds // size, period=unit)
    return BeatInterval(every=microseconds, period="microseconds") if microseconds <= _LARGEST_INTEGER else None


def beat_clocked(expression: str) -> BeatClocked:
    """The instant. Raises: InvalidInput, where the expression means nothing."""
    return BeatClocked(clocked_time=datetime.fromisoformat(normalise(ScheduleKind.CLOCKED, expression, "celery")))


def beat_solar(expression: str) -> BeatSolar:
    """The event and the place. Raises: InvalidInput, where the expression means nothing."""
    event, latitude, longitude = normalise(ScheduleKind.SOLAR, expression, "celery").split(" ")
    return BeatSolar(event=event, latitude=Decimal(latitude), longitude=Decimal(longitude))


def is_same_crontab(first: BeatCrontab, second: BeatCrontab) -> bool:
    """Whether Celery reads the same times from both, however they are spelt.

    Raises:
        InvalidInput: it reads nothing from one of them.
    """
    return _times(celery_grammar.parse(crontab_text(first))) == _times(celery_grammar.parse(crontab_text(second)))


def crontab_text(crontab: BeatCrontab) -> str:
    """The columns as one folded expression; dcb's may hold spaces."""
    columns = (crontab.minute, crontab.hour, crontab.day_of_month, crontab.month_of_year, crontab.day_of_week)
    return fields.fold(" ".join(column.replace(" ", "") for column in columns))


def interval_text(interval: BeatInterval) -> str:
    """The interval as an ISO 8601 duration.

    Raises:
        InvalidInput: field `expression`: no schedule here can hold it, such as one of half a second.
    """
    if interval.period == "microseconds":
        text = f"PT{interval.every // 1_000_000}.{interval.every % 1_000_000:06}".rstrip("0").rstrip(".") + "S"
    else:
        text = f"P{'' if interval.period == 'days' else 'T'}{interval.every}{interval.period[0].upper()}"
    period(text)
    return text


def clocked_text(clocked: BeatClocked) -> str:
    """The instant in UTC, as ISO 8601. Raises: InvalidInput, where no schedule here can hold it."""
    return normalise(ScheduleKind.CLOCKED, clocked.clocked_time.isoformat(), "celery")


def solar_text(solar: BeatSolar) -> str:
    """The event and the place. Raises: InvalidInput, where no schedule here can hold it."""
    return normalise(ScheduleKind.SOLAR, f"{solar.event} {solar.latitude:f} {solar.longitude:f}", "celery")


def _both_days(days: DayRule) -> tuple[int, int] | None:
    """Masks of the days of the month and of the week that must both match; None where no two masks say the same."""
    if days.is_last_day_named or days.weekdays_of_month:
        return None
    if days.is_both_required:
        return days.month_days, days.weekdays
    if days.month_days == _EVERY_MONTH_DAY or days.weekdays == _EVERY_WEEKDAY:
        return _EVERY_MONTH_DAY, _EVERY_WEEKDAY  # either is enough, and one of them is always true
    return None


def _is_read_alike(folded: str, pattern: WallPattern, days: tuple[int, int]) -> bool:
    try:
        theirs = celery_grammar.parse(folded)
    except InvalidInput:
        return False
    return (pattern.minutes, pattern.hours, pattern.days.months, *days) == _times(theirs)


def _times(read: WallPattern) -> tuple[int, ...]:
    return read.minutes, read.hours, read.days.months, read.days.month_days, read.days.weekdays


def _fits(texts: list[str]) -> bool:
    return all(len(text) <= width for text, width in zip(texts, _WIDTHS, strict=True))


def _spell(pattern: WallPattern, days: tuple[int, int]) -> list[str]:
    masks = (pattern.minutes, pattern.hours, days[0], pattern.days.months, days[1])
    return [_list(mask, cron_field) for mask, cron_field in zip(masks, fields.FIELDS, strict=True)]


def _list(mask: int, cron_field: fields.CronField) -> str:
    numbers = list(_numbers(mask))
    return "*" if numbers == list(cron_field.values) else ",".join(map(str, numbers))


def _numbers(mask: int) -> Iterator[int]:
    return (number for number in range(mask.bit_length()) if mask >> number & 1)
