"""Occurrences against the minute-by-minute oracle, over many zones, dense around clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.recurrence import Cadence, count_between, evaluate, next_occurrences
from tests.scheduler.recurrence.oracle import simulate
from tests.scheduler.recurrence.strategies import (
    WINDOW_MINUTES,
    Drawn,
    Window,
    any_windows,
    expressions,
    known_windows,
)

SECOND = timedelta(seconds=1)
bounded = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow], max_examples=120
)


def cadence_of(drawn: Drawn, window: Window) -> Cadence:
    return Cadence("crontab", drawn.expression, window.zone, drawn.dialect)


def list_occurrences(drawn: Drawn, window: Window) -> list[datetime]:
    end = window.start + timedelta(minutes=WINDOW_MINUTES)
    found: list[datetime] = []
    after = window.start - SECOND
    while after is not None and after < end:
        chunk = next_occurrences(
            kind="crontab",
            expression=drawn.expression,
            timezone=window.zone,
            dialect=drawn.dialect,
            after=after,
            count=1000,
        )
        found += [one for one in chunk if one < end]
        after = chunk[-1] if len(chunk) == 1000 else end
    return found


@bounded
@given(drawn=expressions(), window=known_windows())
def test_occurrences_agree_with_the_simulated_time_line_at_known_clock_changes(drawn: Drawn, window: Window) -> None:
    assert list_occurrences(drawn, window) == simulate(drawn.sets, window.zone, window.start, WINDOW_MINUTES)


@bounded
@given(drawn=expressions(), window=any_windows())
def test_occurrences_agree_with_the_simulated_time_line_in_any_zone_and_year(drawn: Drawn, window: Window) -> None:
    assert list_occurrences(drawn, window) == simulate(drawn.sets, window.zone, window.start, WINDOW_MINUTES)


@bounded
@given(drawn=expressions(), window=known_windows(), seconds=st.integers(0, 599))
def test_neighbours_are_the_last_two_occurrences_up_to_an_instant_and_the_first_after_it(
    drawn: Drawn, window: Window, seconds: int
) -> None:
    simulated = simulate(drawn.sets, window.zone, window.start, WINDOW_MINUTES)
    end = window.start + timedelta(minutes=WINDOW_MINUTES)
    for at in instants_around_the_change(window, seconds):
        past, future = [one for one in simulated if one <= at], [one for one in simulated if one > at]
        found = evaluate(cadence_of(drawn, window), at)
        assert [one for one in (found.before_latest, found.latest) if one and one >= window.start] == past[-2:]
        assert [one for one in [found.next] if one and one < end] == future[:1]


@bounded
@given(drawn=expressions(), window=known_windows(), seconds=st.integers(0, 599), span=st.integers(1, 100))
def test_counting_agrees_with_the_simulated_time_line(drawn: Drawn, window: Window, seconds: int, span: int) -> None:
    simulated = simulate(drawn.sets, window.zone, window.start, WINDOW_MINUTES)
    instants = [window.start, *instants_around_the_change(window, seconds)]
    for start, end in zip(instants, instants[span:], strict=False):
        expected = sum(start <= one < end for one in simulated)
        assert count_between(cadence_of(drawn, window), start, end, WINDOW_MINUTES) == expected


def instants_around_the_change(window: Window, seconds: int) -> list[datetime]:
    """Every ten minutes from five hours before the middle of the window to five hours after it, `seconds` later."""
    middle = window.start + timedelta(minutes=WINDOW_MINUTES // 2)
    return [middle + timedelta(minutes=10 * step, seconds=seconds) for step in range(-30, 30)]


def test_counting_gives_none_above_its_limit() -> None:
    every_minute = Cadence("crontab", "* * * * *", "UTC")
    start = datetime(2024, 1, 1, tzinfo=UTC)
    assert count_between(every_minute, start, start + timedelta(minutes=10), 10) == 10
    assert count_between(every_minute, start, start + timedelta(minutes=11), 10) is None


def test_counting_years_of_minutes_is_one_calculation() -> None:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    end = datetime(2025, 1, 1, tzinfo=UTC)
    counted = count_between(Cadence("crontab", "* * * * *", "Europe/Berlin"), start, end, 10**9)
    assert counted == (end - start) // timedelta(minutes=1)
