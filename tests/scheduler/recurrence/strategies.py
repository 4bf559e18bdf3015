"""Hypothesis strategies: expressions drawn with the sets they mean, and windows of time around clock changes."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from tests.scheduler.recurrence.oracle import Sets, find_changes

WINDOW_MINUTES = 4 * 1440

CHANGES = [
    ("America/New_York", "2024-03-10T07:00"),
    ("America/New_York", "2024-11-03T06:00"),
    ("Europe/London", "2024-03-31T01:00"),
    ("Europe/London", "2024-10-27T01:00"),
    ("Europe/Dublin", "2024-10-27T01:00"),
    ("Australia/Lord_Howe", "2024-04-06T15:00"),
    ("Australia/Lord_Howe", "2024-10-05T15:30"),
    ("America/Sao_Paulo", "2018-02-18T02:00"),
    ("America/Sao_Paulo", "2018-11-04T03:00"),
    ("Asia/Beirut", "2022-03-26T22:00"),
    ("Asia/Beirut", "2022-10-29T21:00"),
    ("Africa/Cairo", "2023-04-27T22:00"),
    ("Africa/Cairo", "2023-10-26T21:00"),
    ("America/St_Johns", "2006-04-02T03:31"),
    ("America/St_Johns", "2006-10-29T02:31"),
    ("Antarctica/Troll", "2024-03-31T01:00"),
    ("Antarctica/Troll", "2024-10-27T01:00"),
    ("Pacific/Apia", "2011-12-30T10:00"),
    ("Pacific/Kiritimati", "1994-12-31T10:40"),
    ("Pacific/Chatham", "2024-04-06T14:00"),
    ("Pacific/Chatham", "2024-09-28T14:00"),
    ("Asia/Kathmandu", "1985-12-31T18:30"),
    ("Asia/Pyongyang", "2015-08-14T15:00"),
    ("Asia/Pyongyang", "2018-05-04T15:00"),
    ("Africa/Casablanca", "2024-03-10T02:00"),
    ("Africa/Casablanca", "2024-04-14T02:00"),
    ("Europe/Moscow", "2011-03-26T23:00"),
    ("Europe/Moscow", "2014-10-25T22:00"),
    ("America/Caracas", "2007-12-09T07:00"),
    ("America/Caracas", "2016-05-01T07:00"),
    ("Asia/Kolkata", "2024-03-10T02:00"),
]


@dataclass(frozen=True)
class Drawn:
    """An expression and what it means."""

    expression: str
    dialect: str
    sets: Sets


@dataclass(frozen=True)
class Window:
    """`WINDOW_MINUTES` of one zone, usually around a clock change."""

    zone: str
    start: datetime


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, frozenset[int]]:
    """A field's text and the values it names, in forms that both dialects read alike."""
    everything = range(low, high + 1)
    shape = draw(st.sampled_from(["star", "star", "step", "one", "list", "range", "range step"]))
    if shape == "star":
        return "*", frozenset(everything)
    if shape == "step":
        step = draw(st.integers(1, high))
        return f"*/{step}", frozenset(everything[::step])
    if shape == "one":
        value = draw(st.integers(low, high))
        return str(value), frozenset([value])
    if shape == "list":
        values = draw(st.lists(st.integers(low, high), min_size=2, max_size=5))
        return ",".join(map(str, values)), frozenset(values)
    first = draw(st.integers(low, high - 1))
    last = draw(st.integers(first + 1, high))
    if shape == "range":
        return f"{first}-{last}", frozenset(range(first, last + 1))
    step = draw(st.integers(1, 7))
    return f"{first}-{last}/{step}", frozenset(range(first, last + 1, step))


@st.composite
def near_night(draw: st.DrawFn) -> tuple[str, frozenset[int]]:
    """An hour field with the hours in which clocks change."""
    hours = draw(st.lists(st.sampled_from([0, 1, 2, 3, 23]), min_size=1, max_size=3, unique=True))
    return ",".join(map(str, hours)), frozenset(hours)


@st.composite
def expressions(draw: st.DrawFn) -> Drawn:
    """A crontab of either dialect; its days are not restricted in two of three."""
    minute, minutes = draw(fields(0, 59))
    hour, hours = draw(st.one_of(near_night(), fields(0, 23)))
    is_any_day = draw(st.sampled_from([True, True, False]))
    month_day, month_days = ("*", frozenset(range(1, 32))) if is_any_day else draw(fields(1, 31))
    month, months = ("*", frozenset(range(1, 13))) if is_any_day else draw(fields(1, 12))
    weekday, weekdays = ("*", frozenset(range(7))) if is_any_day else draw(fields(0, 6))
    dialect = draw(st.sampled_from(["unix", "celery"]))
    sets = Sets(
        minutes=minutes,
        hours=hours,
        month_days=month_days,
        months=months,
        weekdays=weekdays,
        both_days=dialect == "celery" or month_day[0] == "*" or weekday[0] == "*",
        wild=minute[0] == "*" or hour[0] == "*",
    )
    return Drawn(f"{minute} {hour} {month_day} {month} {weekday}", dialect, sets)


@st.composite
def known_windows(draw: st.DrawFn) -> Window:
    """A window around one of `CHANGES`."""
    zone, change = draw(st.sampled_from(CHANGES))
    return Window(zone, datetime.fromisoformat(change).replace(tzinfo=UTC) - timedelta(days=2))


@st.composite
def any_windows(draw: st.DrawFn) -> Window:
    """A window around a clock change of any zone since 1975, or anywhere in a year without one."""
    zone = draw(st.sampled_from(sorted(zoneinfo.available_timezones() - {"localtime"})))
    year = draw(st.integers(1975, 2024))
    anywhere = datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=draw(st.integers(2, 360)))
    change = draw(st.sampled_from(find_changes(zone, year) or [anywhere]))
    return Window(zone, change - timedelta(days=2))
