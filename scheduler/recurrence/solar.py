"""Solar expressions: what the sun does at a place, as `celery.schedules.solar` has it, evaluated once for all.

ephem gives an instant that differs by some 100 ms with where its search begins. So that an occurrence is one instant
whoever asks, each UTC day is searched from its start, and the answer is rounded to a whole second. A day on which the
sun does not do it (polar day and night) has no occurrence.

Closer to a pole than half a degree the sun rises and sets a few times a year, and ephem's search misses them in some
years: only its noon is accepted there.

Instants are whole seconds since 1970-01-01 UTC, days are counted from then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from scheduler.errors import InvalidInput
from scheduler.recurrence.fields import LONGEST_EXPRESSION, refuse
from scheduler.recurrence.instants import moment, seconds_down, seconds_up

HORIZON_DAYS = 400
"""How far a search goes. The longest wait is some 290 days: for astronomical dusk, half a degree from a pole."""
MOST_DAYS_COUNTED = 3660
"""Longer spans are not counted: each day costs some 0.1 ms."""
LARGEST_LATITUDE = 90
LARGEST_LONGITUDE = 180
LARGEST_RISING_LATITUDE = Decimal("89.5")

_DAY = 86_400
_EPHEM_EPOCH = 25_567.5
"""1970-01-01 in ephem's count of days."""
_OVERHANG_SECONDS = 60
"""A day's search reaches so far into the next day, which leaves out what was found: ephem's inaccuracy could put an
event at midnight into both days, or into none."""
_SAME_EVENT_SECONDS = 120
_EARLY_SECONDS = 6 * 3600
"""Only an event before this hour leaves room for a second one on the same UTC day."""
_DECIMAL = re.compile(r"[+-]?\d{1,3}(?:\.\d{0,30})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SolarEvent:
    """How ephem is asked for an event."""

    horizon: str
    """Degrees (and minutes) above the horizon at which it happens."""
    method: str
    use_center: bool
    """Whether the sun's centre reaches it, or its edge."""
    words: str


def _twilight(words: str, method: str, horizon: str) -> SolarEvent:
    return SolarEvent(horizon=horizon, method=method, use_center=True, words=words)


EVENTS = {
    "dawn_astronomical": _twilight("Astronomical dawn", "next_rising", "-18"),
    "dawn_nautical": _twilight("Nautical dawn", "next_rising", "-12"),
    "dawn_civil": _twilight("Civil dawn", "next_rising", "-6"),
    "sunrise": SolarEvent(horizon="-0:34", method="next_rising", use_center=False, words="Sunrise"),
    "solar_noon": SolarEvent(horizon="0", method="next_transit", use_center=False, words="Solar noon"),
    "sunset": SolarEvent(horizon="-0:34", method="next_setting", use_center=False, words="Sunset"),
    "dusk_civil": _twilight("Civil dusk", "next_setting", "-6"),
    "dusk_nautical": _twilight("Nautical dusk", "next_setting", "-12"),
    "dusk_astronomical": _twilight("Astronomical dusk", "next_setting", "-18"),
}
"""By name, as Celery names them."""


@dataclass(frozen=True, slots=True)
class Solar:
    """An event at a place."""

    event: str
    latitude: str
    """Decimal degrees, normalised; north is positive."""
    longitude: str
    """The same; east is positive."""

    def following(self, at: datetime) -> datetime | None:
        """The first occurrence after `at`; None where the next 400 days hold none."""
        instant = seconds_down(at)
        first_day = (instant - _OVERHANG_SECONDS) // _DAY
        found = (one for day in range(first_day, first_day + HORIZON_DAYS) for one in self._on(day) if one > instant)
        return moment(next(found, None))

    def preceding(self, at: datetime) -> datetime | None:
        """The last occurrence at or before `at`; None where the last 400 days hold none."""
        instant = seconds_down(at)
        days = range(instant // _DAY, instant // _DAY - HORIZON_DAYS, -1)
        return moment(next((one for day in days for one in reversed(self._on(day)) if one <= instant), None))

    def count(self, start: datetime, end: datetime) -> int | None:
        """How many occurrences lie in `start <= occurrence < end`; None where that is more than ten years."""
        first, last = seconds_up(start), seconds_up(end)
        days = range((first - _OVERHANG_SECONDS) // _DAY, last // _DAY + 1)
        if len(days) > MOST_DAYS_COUNTED:
            return None
        return sum(first <= one < last for day in days for one in self._on(day))

    def _on(self, day: int) -> tuple[int, ...]:
        """The day's occurrences, those that its search found within a minute after its end included."""
        found = _search(self.event, self.latitude, self.longitude, day)
        if not found or found[0] - day * _DAY > _OVERHANG_SECONDS + _SAME_EVENT_SECONDS:
            return found
        before = _search(self.event, self.latitude, self.longitude, day - 1)
        return tuple(one for one in found if not before or one - before[-1] > _SAME_EVENT_SECONDS)


def fold(expression: object) -> str:
    """The event in lower case and two plain numbers, rounded to six decimals: `sunset 52.52 13.405`.

    Raises:
        InvalidInput: field `expression`, when it is no event known here at a place on earth.
    """
    event, latitude, longitude = _split(expression)
    if event not in EVENTS:
        raise refuse(f"one of the solar events {', '.join(EVENTS)}", event)
    places = _degrees("latitude", latitude, LARGEST_LATITUDE), _degrees("longitude", longitude, LARGEST_LONGITUDE)
    return " ".join((event, *places))


@lru_cache(maxsize=4096)
def parse(expression: str) -> Solar:
    """The event and the place that an expression names.

    Raises:
        InvalidInput: field `expression`, as `fold` does, or for a rising or setting close to a pole; field `kind`
            where ephem is not installed.
    """
    _ephem()
    found = Solar(*fold(expression).split(" "))
    if found.event != "solar_noon" and abs(Decimal(found.latitude)) > LARGEST_RISING_LATITUDE:
        raise refuse(f"a latitude of at most {LARGEST_RISING_LATITUDE} degrees, or solar_noon", expression)
    return found


def _split(expression: object) -> list[str]:
    form = "an event, a latitude and a longitude in decimal degrees, such as 'sunset 52.52 13.405'"
    if not isinstance(expression, str):
        raise refuse(form, expression)
    if len(expression) > LONGEST_EXPRESSION:
        raise refuse(f"at most {LONGEST_EXPRESSION} characters", expression[:60] + "…")
    parts = expression.lower().split()
    if len(parts) != 3:
        raise refuse(form, expression)
    return parts


def _degrees(name: str, text: str, largest: int) -> str:
    if not _DECIMAL.fullmatch(text) or abs(Decimal(text)) > largest:
        raise refuse(f"a {name} of -{largest} to {largest} decimal degrees", text)
    rounded = round(Decimal(text), 6).normalize() + 0  # + 0: there is no -0
    return f"{rounded:f}"


@lru_cache(maxsize=65_536)
def _search(event: str, latitude: str, longitude: str, day: int) -> tuple[int, ...]:
    """What a search from the start of the day finds until a minute after its end: one instant as a rule."""
    start, end = day * _DAY, (day + 1) * _DAY + _OVERHANG_SECONDS
    return tuple(_walk(event, latitude, longitude, start, end))


def _walk(event: str, latitude: str, longitude: str, start: int, end: int) -> Iterator[int]:
    """Goes on after an event, and, as Celery does, from the sun's next lowest point where it does not do it."""
    observer = _observe(event, latitude, longitude)
    while start < end - _OVERHANG_SECONDS:
        found = _ask(observer, EVENTS[event], start)
        if found is None:
            lowest = _from_ephem(observer.next_antitransit(_ephem().Sun(), start=_to_ephem(start)))
            start = max(start, lowest) + 1  # past it: rounded down, the same one would be found again
        elif start <= found < end:
            yield found
            start = found + _SAME_EVENT_SECONDS if found < start + _EARLY_SECONDS else end
        else:
            return


def _observe(event: str, latitude: str, longitude: str) -> Any:
    observer = _ephem().Observer()
    observer.lat, observer.lon = latitude, longitude
    observer.elevation, observer.pressure, observer.horizon = 0, 0, EVENTS[event].horizon
    return observer


def _ask(observer: Any, event: SolarEvent, start: int) -> int | None:
    """The first such event after an instant, by ephem; None: the sun does not do it round its next lowest point."""
    ephem = _ephem()
    options = {"use_center": True} if event.use_center else {}
    try:
        return _from_ephem(getattr(observer, event.method)(ephem.Sun(), start=_to_ephem(start), **options))
    except ephem.CircumpolarError:
        return None


def _to_ephem(instant: int) -> float:
    return _EPHEM_EPOCH + instant / _DAY


def _from_ephem(days: float) -> int:
    return round((days - _EPHEM_EPOCH) * _DAY)


def _ephem() -> Any:
    try:
        import ephem
    except ImportError:
        expected = "a kind other than 'solar', because ephem is not installed (pip install 'django-downbeat[solar]')"
        raise InvalidInput(field="kind", expected=expected, got="solar") from None
    return ephem
