"""A schedule in words, for people's eyes only.

The words are cron-descriptor's, which django-celery-beat brings along. Without it, and for shapes that it tells
misleadingly (`0 22-4 * * *` as "Between 22:00 and 04:59"), the expression itself is the description.
"""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec

from scheduler.domain import ScheduleKind
from scheduler.recurrence import clocked, fields, intervals, solar
from scheduler.recurrence.cadence import validate

_NUMBERS = r"\d+(?:,\d+)*"
_WEEKDAY = r"(?:[0-6]|sun|mon|tue|wed|thu|fri|sat)"
_WELL_TOLD = re.compile(
    rf"(?:\*|\*/(?:2|3|4|5|6|10|12|15|20|30)|{_NUMBERS}) "
    rf"(?:\*|\*/(?:2|3|4|6|8|12)|{_NUMBERS}) "
    rf"(?:(?:{_NUMBERS}) (?:\*|{_NUMBERS}) \*"
    rf"|\* \* (?:\*|{_WEEKDAY}(?:-{_WEEKDAY}|(?:,{_WEEKDAY})*)))"
)
_UNITS = (("week", 604_800), ("day", 86_400), ("hour", 3600), ("minute", 60))


def describe(*, kind: str, expression: str, timezone: str, dialect: str = "unix") -> str:
    """The schedule in a few words, such as "At 02:30, only on Monday, Europe/Berlin" or "Every 5 minutes, UTC".

    Falls back to the expression and its zone. Only a crontab has a zone: "Every 1 hour 30 minutes",
    "Once, at 2026-12-01 10:00:00 UTC", "Sunset at 52.52° N, 13.405° E".

    Raises:
        InvalidInput: as `validate` does.
    """
    validate(kind=kind, expression=expression, timezone=timezone, dialect=dialect)
    return _TELLERS[ScheduleKind(kind)](expression, timezone)


def _tell_pattern(expression: str, timezone: str) -> str:
    folded = fields.fold(expression)
    return f"{_tell_crontab(folded) or folded}, {timezone}"


def _tell_interval(expression: str, _: str) -> str:
    return "Every " + _tell_duration(intervals.interval_seconds(expression))


def _tell_instant(expression: str, _: str) -> str:
    return f"Once, at {clocked.fold(expression).removesuffix('Z').replace('T', ' ')} UTC"


def _tell_event(expression: str, _: str) -> str:
    found = solar.parse(expression)
    latitude, longitude = _tell_degrees(found.latitude, "N", "S"), _tell_degrees(found.longitude, "E", "W")
    return f"{solar.EVENTS[found.event].words} at {latitude}, {longitude}"


def _tell_degrees(degrees: str, positive: str, negative: str) -> str:
    return f"{degrees.removeprefix('-')}° {negative if degrees.startswith('-') else positive}"


def _tell_crontab(folded: str) -> str | None:
    text = " ".join(fields.split(folded))
    if not _WELL_TOLD.fullmatch(text) or find_spec("cron_descriptor") is None:
        return None
    descriptor = import_module("cron_descriptor")
    options = descriptor.Options()
    options.use_24hour_time_format = True
    return str(descriptor.get_description(text, options))


def _tell_duration(seconds: float) -> str:
    told = []
    for unit, size in _UNITS:
        amount, seconds = divmod(seconds, size)
        if amount:
            told.append(_tell(amount, unit))
    if seconds:
        told.append(_tell(round(seconds, 3), "second"))
    return " ".join(told)


def _tell(amount: float, unit: str) -> str:
    return f"{amount:g} {unit}{'' if amount == 1 else 's'}"


_TELLERS = {
    ScheduleKind.CRONTAB: _tell_pattern,
    ScheduleKind.INTERVAL: _tell_interval,
    ScheduleKind.CLOCKED: _tell_instant,
    ScheduleKind.SOLAR: _tell_event,
}
