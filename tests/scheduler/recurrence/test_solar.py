"""Solar schedules, against the sun's altitude as ephem has it, and against Celery's own `solar`."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import degrees
from pathlib import Path
from typing import Any

import ephem
import pytest
from celery.schedules import solar as celery_solar
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.errors import InvalidInput
from scheduler.recurrence import Cadence, count_between, describe, evaluate, next_occurrences, normalise, validate

PROJECT = Path(__file__).parents[3]
AT = datetime(2026, 5, 5, 12, tzinfo=UTC)
DAY = timedelta(days=1)
STEP = timedelta(minutes=4)
ALTITUDES = {
    "dawn_astronomical": (-18, +1), "dawn_nautical": (-12, +1), "dawn_civil": (-6, +1), "sunrise": (-34 / 60, +1),
    "sunset": (-34 / 60, -1), "dusk_civil": (-6, -1), "dusk_nautical": (-12, -1), "dusk_astronomical": (-18, -1),
}  # fmt: skip
"""Degrees of the sun (its upper edge at sunrise and sunset) and whether it goes up or down."""
bounded = settings(derandomize=True, deadline=None, database=None, max_examples=60)

latitudes = st.one_of(
    st.integers(-65_000_000, 65_000_000), st.integers(65_000_000, 80_000_000), st.integers(-80_000_000, -65_000_000)
).map(lambda millionths: millionths / 1_000_000)
"""Dense round the polar circles, short of where ephem's answers depend on where its search begins."""
longitudes = st.integers(-180_000_000, 180_000_000).map(lambda millionths: millionths / 1_000_000)
instants = st.integers(0, 6 * 365 * 86_400).map(
    lambda seconds: datetime(2023, 1, 1, tzinfo=UTC) + seconds * DAY / 86_400
)


def spell(event: str, latitude: float, longitude: float) -> str:
    return f"{event} {latitude:.6f} {longitude:.6f}"


def upcoming(expression: str, after: datetime, count: int) -> list[datetime]:
    return next_occurrences(kind="solar", expression=expression, timezone="UTC", after=after, count=count)


def height(event: str, latitude: float, longitude: float, at: datetime) -> float:
    """Degrees of the sun above the altitude that makes the event, by ephem's position alone."""
    place = ephem.Observer()
    place.lat, place.lon = ephem.degrees(f"{latitude:.6f}"), ephem.degrees(f"{longitude:.6f}")
    place.elevation, place.pressure, place.date = 0, 0, at.replace(tzinfo=None)
    sun = ephem.Sun(place)
    edge = degrees(sun.radius) if event in ("sunrise", "sunset") else 0
    return degrees(sun.alt) + edge - ALTITUDES[event][0]


def scan(event: str, latitude: float, longitude: float, start: datetime, days: int) -> list[datetime]:
    """Every passage through the event's altitude in its direction, found step by step."""
    direction = ALTITUDES[event][1]
    found = []
    at, above = start, direction * height(event, latitude, longitude, start)
    while at < start + days * DAY:
        following = direction * height(event, latitude, longitude, at + STEP)
        if above < 0 <= following:
            found.append(halve(event, latitude, longitude, at))
        at, above = at + STEP, following
    return found


def halve(event: str, latitude: float, longitude: float, at: datetime) -> datetime:
    low, high = at, at + STEP
    while high - low > timedelta(seconds=0.05):
        middle = low + (high - low) / 2
        if ALTITUDES[event][1] * height(event, latitude, longitude, middle) < 0:
            low = middle
        else:
            high = middle
    return high


@bounded
@given(event=st.sampled_from(sorted(ALTITUDES)), latitude=latitudes, longitude=longitudes, start=instants)
def test_occurrences_are_where_the_sun_passes_the_events_altitude(
    event: str, latitude: float, longitude: float, start: datetime
) -> None:
    scanned = scan(event, latitude, longitude, start, days=4)
    found = [one for one in upcoming(spell(event, latitude, longitude), start, 6) if one <= start + 4 * DAY]
    for one in found:
        assert abs(height(event, latitude, longitude, one)) < 0.01
        assert min(abs(one - passage) for passage in scanned) < timedelta(minutes=1)
    for passage in scanned:
        assert any(abs(one - passage) < timedelta(minutes=1) for one in found) or is_grazing(
            event, latitude, longitude, passage
        )


def is_grazing(event: str, latitude: float, longitude: float, passage: datetime) -> bool:
    """Whether the sun hardly leaves the event's altitude around the passage: ephem may miss such a one."""
    steps = [passage + hours * timedelta(hours=1) for hours in range(-14, 15)]
    heights = [height(event, latitude, longitude, at) for at in steps]
    return min(max(heights), -min(heights)) < 0.3


@bounded
@given(
    event=st.sampled_from([*sorted(ALTITUDES), "solar_noon"]), latitude=latitudes, longitude=longitudes, start=instants
)
def test_occurrences_agree_with_celery_within_two_seconds(
    event: str, latitude: float, longitude: float, start: datetime
) -> None:
    for ours in upcoming(spell(event, latitude, longitude), start, 12):
        theirs = celery_solar(event, latitude, longitude, nowfun=lambda now=start: now)
        start += theirs.remaining_estimate(start)
        assert abs(ours - start) <= timedelta(seconds=2)


@pytest.mark.parametrize("days", range(0, 366, 61))
def test_the_sun_is_highest_at_solar_noon(days: int) -> None:
    [noon] = upcoming("solar_noon 48.2 16.37", AT + days * DAY, 1)
    heights = [height("sunset", 48.2, 16.37, noon + timedelta(minutes=minutes)) for minutes in (-5, 0, 5)]
    assert max(heights) == heights[1]


def test_in_polar_day_and_night_the_sun_does_not_set() -> None:
    tromso = Cadence("solar", "sunset 69.65 18.95", "UTC")
    in_summer, in_winter = (evaluate(tromso, datetime(2026, month, 25, tzinfo=UTC)) for month in (6, 12))
    assert (in_summer.latest.month, in_summer.next.month) == (5, 7)
    assert (in_winter.latest.month, in_winter.next.month) == (11, 1)
    assert count_between(tromso, datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC), 99) == 0
    assert count_between(tromso, datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC), 99) == 30


@pytest.mark.parametrize("longitude", ["179.2", "179.08", "-179.05", "178.9"])
def test_each_noon_round_midnight_utc_is_one_occurrence(longitude: str) -> None:
    expression = f"solar_noon 10 {longitude}"
    found = upcoming(expression, AT, 740)
    gaps = {round((after - before) / DAY, 2) for before, after in pairwise(found)}
    assert gaps == {1.0}
    cadence = Cadence("solar", expression, "UTC")
    assert count_between(cadence, found[0], found[-1], 9999) == len(found) - 1
    for before, one, after in zip(found[::37], found[1::37], found[2::37], strict=False):
        at_one, just_before = evaluate(cadence, one), evaluate(cadence, one - timedelta(microseconds=1))
        assert (at_one.before_latest, at_one.latest, at_one.next) == (before, one, after)
        assert (just_before.latest, just_before.next) == (before, one)


@bounded
@given(event=st.sampled_from(sorted(ALTITUDES)), latitude=latitudes, longitude=longitudes, start=instants)
def test_neighbours_and_counts_tell_of_the_same_occurrences(
    event: str, latitude: float, longitude: float, start: datetime
) -> None:
    expression = spell(event, latitude, longitude)
    cadence = Cadence("solar", normalise("solar", expression, "unix"), "UTC")
    first, second, third = upcoming(expression, start, 3)
    assert evaluate(cadence, second).before_latest == first
    assert evaluate(cadence, third - timedelta(seconds=0.5)).latest == second
    assert evaluate(cadence, start).next == first
    assert count_between(cadence, first, third, 9) == 2
    assert count_between(cadence, first + timedelta(seconds=0.5), third + timedelta(seconds=0.5), 9) == 2


def test_occurrences_do_not_depend_on_where_the_question_begins() -> None:
    whole = upcoming("sunrise 66.6 24.1", AT, 60)
    assert [upcoming("sunrise 66.6 24.1", one - timedelta(hours=5), 1)[0] for one in whole] == whole
    assert all(one.microsecond == 0 for one in whole)


def test_spans_of_over_ten_years_are_not_counted() -> None:
    sunset = Cadence("solar", "sunset 52.52 13.405", "UTC")
    assert count_between(sunset, AT, AT + 3661 * DAY, 2**62) is None
    assert count_between(sunset, AT, AT + 100 * DAY, 99) is None
    assert count_between(sunset, AT, AT + 100 * DAY, 100) == 100


@pytest.mark.parametrize(
    ("written", "stored", "told"),
    [
        ("sunset 52.52 13.405", "sunset 52.52 13.405", "Sunset at 52.52° N, 13.405° E"),
        (" Sunrise\t-033.8680  +151.2000000 ", "sunrise -33.868 151.2", "Sunrise at 33.868° S, 151.2° E"),
        ("SOLAR_NOON 0 -120.00", "solar_noon 0 -120", "Solar noon at 0° N, 120° W"),
        ("dusk_civil 1.23456789 -0.0000001", "dusk_civil 1.234568 0", "Civil dusk at 1.234568° N, 0° E"),
        ("solar_noon 90 180", "solar_noon 90 180", "Solar noon at 90° N, 180° E"),
        ("dawn_nautical 100e0 0", None, None),
    ],
)
def test_a_place_is_stored_in_one_spelling(written: str, stored: str | None, told: str | None) -> None:
    if stored is None:
        with pytest.raises(InvalidInput, match="expression: expected a latitude of -90 to 90 decimal degrees"):
            normalise("solar", written, "unix")
        return
    assert normalise("solar", written, "unix") == stored
    assert normalise("solar", stored, "celery") == stored
    assert describe(kind="solar", expression=written, timezone="UTC") == told
    assert upcoming(written, AT, 2) == upcoming(stored, AT, 2)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sunup 52.52 13.405", "one of the solar events dawn_astronomical, dawn_nautical, dawn_civil, sunrise,"),
        ("sunset 90.000001 0", "a latitude of -90 to 90 decimal degrees"),
        ("sunset 52.52 -180.1", "a longitude of -180 to 180 decimal degrees"),
        ("sunset 52,52 13.405", "a latitude of -90 to 90 decimal degrees"),
        ("sunset 52°31' 13.405", "a latitude of -90 to 90 decimal degrees"),
        ("sunset nan 13.405", "a latitude of -90 to 90 decimal degrees"),
        ("sunset ٥٢ 13.405", "a latitude of -90 to 90 decimal degrees"),
        ("sunset -89.6 0", "a latitude of at most 89.5 degrees, or solar_noon"),
        ("sunset 52.52", "an event, a latitude and a longitude in decimal degrees"),
        ("", "an event, a latitude and a longitude in decimal degrees"),
        (None, "an event, a latitude and a longitude in decimal degrees"),
        ("sunset 52.52 13.405" + " " * 1000, "at most 1000 characters"),
    ],
)
def test_a_bad_event_or_place_is_refused_with_what_was_expected(expression: Any, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(kind="solar", expression=expression, timezone="UTC")
    assert caught.value.field == "expression"
    assert expected in caught.value.expected


@settings(derandomize=True, deadline=None, database=None)
@given(text=st.text("sunet_d 0123456789.-+", max_size=24))
def test_no_text_raises_anything_but_invalid_input(text: str) -> None:
    for expression in (text, f"sunset {text}"):
        try:
            validate(kind="solar", expression=expression, timezone="UTC")
        except InvalidInput as error:
            assert error.field == "expression"  # noqa: PT017


def test_without_ephem_a_solar_schedule_is_refused_with_what_to_install() -> None:
    script = (
        "import sys\n"
        "sys.modules['ephem'] = None\n"
        "from scheduler.recurrence import normalise, validate\n"
        "print(normalise('solar', 'Sunset 52.520 13.4', 'unix'))\n"
        "validate(kind='clocked', expression='2026-12-01T10:00Z', timezone='UTC')\n"
        "try:\n"
        "    validate(kind='solar', expression='sunset 52.52 13.4', timezone='UTC')\n"
        "except ValueError as refusal:\n"
        "    print(refusal.field, refusal)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout == (
        "sunset 52.52 13.4\n"
        "kind kind: expected a kind other than 'solar', because ephem is not installed "
        "(pip install 'django-downbeat[solar]'), got: 'solar'\n"
    )
