"""Intervals: ISO 8601 durations of elapsed time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.errors import InvalidInput
from scheduler.recurrence import Cadence, count_between, interval_seconds, next_occurrences, period, validate


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("PT5S", timedelta(seconds=5)),
        ("PT1S", timedelta(seconds=1)),
        ("PT1.5S", timedelta(seconds=1.5)),
        ("PT1.001S", timedelta(seconds=1, milliseconds=1)),
        ("PT1,25S", timedelta(seconds=1.25)),
        ("PT1H30M", timedelta(hours=1, minutes=30)),
        ("PT90M", timedelta(minutes=90)),
        ("P1D", timedelta(days=1)),
        ("P1DT12H", timedelta(hours=36)),
        ("P1DT0.5S", timedelta(days=1, milliseconds=500)),
        ("P2W", timedelta(weeks=2)),
        ("P3650D", timedelta(days=3650)),
        (" p1d ", timedelta(days=1)),
    ],
)
def test_a_duration_is_so_much_elapsed_time(expression: str, expected: timedelta) -> None:
    assert period(expression) == expected
    assert interval_seconds(expression) == expected.total_seconds()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("P1Y", "without years and months (their length varies: use a crontab"),
        ("P2M", "without years and months"),
        ("P1Y2M3DT4H", "without years and months"),
        ("PT0S", "at least 1 second"),
        ("PT0.999S", "at least 1 second"),
        ("P3651D", "at most 10 years"),
        ("P99999999999D", "at most 10 years"),
        ("PT" + "9" * 5000 + "S", "at most 1000 characters"),
        ("PT" + "9" * 500 + "S", "an ISO 8601 duration"),
        ("P", "an ISO 8601 duration"),
        ("PT", "an ISO 8601 duration"),
        ("P1DT", "an ISO 8601 duration"),
        ("P1W2D", "an ISO 8601 duration"),
        ("PT0.5H", "an ISO 8601 duration"),
        ("PT1.0001S", "an ISO 8601 duration"),
        ("-PT5S", "an ISO 8601 duration"),
        ("PT-5S", "an ISO 8601 duration"),
        ("PT5", "an ISO 8601 duration"),
        ("PT5S PT5S", "an ISO 8601 duration"),
        ("5S", "an ISO 8601 duration"),
        ("300", "an ISO 8601 duration"),
        ("PT٣S", "an ISO 8601 duration"),
        ("* * * * *", "an ISO 8601 duration"),
        ("", "an ISO 8601 duration"),
        (5, "an ISO 8601 duration"),
        (timedelta(seconds=5), "an ISO 8601 duration"),
    ],
)
def test_a_bad_duration_is_refused_with_what_was_expected(expression: Any, expected: str) -> None:
    for refuse in (
        lambda: period(expression),
        lambda: validate(kind="interval", expression=expression, timezone="UTC"),
    ):
        with pytest.raises(InvalidInput) as caught:
            refuse()
        assert caught.value.field == "expression"
        assert expected in caught.value.expected


@settings(derandomize=True, deadline=None, database=None)
@given(text=st.text("PT0123456789.,WDHMSY- ", max_size=14))
def test_no_text_raises_anything_but_invalid_input(text: str) -> None:
    try:
        assert timedelta(seconds=1) <= period(text) <= timedelta(days=3650)
    except InvalidInput as error:
        assert error.field == "expression"  # noqa: PT017


def test_an_interval_follows_its_anchor_in_elapsed_time_through_a_clock_change() -> None:
    anchor = datetime(2024, 3, 30, 12, 0, 0, 250_000, tzinfo=ZoneInfo("Europe/Berlin"))
    found = next_occurrences(kind="interval", expression="P1D", timezone="Europe/Berlin", after=anchor, count=3)
    assert found == [anchor.astimezone(UTC) + step * timedelta(hours=24) for step in (1, 2, 3)]
    assert found[0].astimezone(ZoneInfo("Europe/Berlin")).hour == 13
    assert {one.tzinfo for one in found} == {UTC}


def test_an_interval_ends_with_the_calendar() -> None:
    found = next_occurrences(
        kind="interval",
        expression="P3650D",
        timezone="UTC",
        after=datetime(2999, 1, 1, tzinfo=UTC),
        count=1000,
    )
    assert 0 < len(found) < 1000
    assert found[-1] > datetime(9980, 1, 1, tzinfo=UTC)


def test_counting_an_interval_is_anchored_on_the_start_which_counts() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    every_five = Cadence("interval", "PT5S", "UTC")
    for seconds, expected in [(0, 0), (1, 1), (5, 1), (6, 2), (86_400, 17_280), (-3, 0)]:
        assert count_between(every_five, start, start + timedelta(seconds=seconds), 10**6) == expected
    assert count_between(every_five, start, start + timedelta(days=1), 17_279) is None
