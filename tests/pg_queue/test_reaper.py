"""Duties are isolated, bounded, and done when they are due."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pg_queue import reaper
from pg_queue.reaper import ROUND_SECONDS, Duty, DutyRounds, add_duties, all_duties, duty_apps


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def counts(*numbers: int) -> Callable[[], int]:
    left = iter(numbers)
    return lambda: next(left)


def boom() -> int:
    raise RuntimeError("full disk")


@pytest.mark.django_db  # after a failure the thread's connections are looked after
def test_a_failing_duty_stops_no_other_and_is_tried_again() -> None:
    clock = Time()
    rounds = DutyRounds(
        [
            Duty(name="bad", every_seconds=5, run=boom),
            Duty(name="good", every_seconds=5, run=counts(0, 0)),
        ],
        clock=clock,
    )
    bad, good = rounds.run_due()
    assert bad.error == "RuntimeError: full disk"
    assert (good.duty, good.error) == ("good", None)
    assert rounds.run_due() == []
    assert rounds.seconds_until_due() == 5
    clock.now += 5
    assert [done.duty for done in rounds.run_due()] == ["bad", "good"]


def test_full_batches_are_followed_by_another_at_once() -> None:
    rounds = DutyRounds([Duty(name="d", every_seconds=5, run=counts(10, 10, 3), batch=10)], clock=Time())
    assert [done.rows for done in rounds.run_due()] == [23]


def test_a_duty_without_end_leaves_time_for_the_others() -> None:
    clock = Time()

    def endless() -> int:
        clock.now += ROUND_SECONDS / 2
        return 10

    rounds = DutyRounds(
        [
            Duty(name="endless", every_seconds=1, run=endless, batch=10),
            Duty(name="other", every_seconds=1, run=counts(0)),
        ],
        clock=clock,
    )
    assert [(done.duty, done.rows) for done in rounds.run_due()] == [("endless", 20), ("other", 0)]


def test_the_duties_of_other_apps_are_asked_for_when_a_reaper_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "_sources", {})
    own = [duty.name for duty in all_duties()]
    assert duty_apps() == ("pg_queue",)
    asked: list[str] = []

    def source() -> list[Duty]:
        asked.append("now")
        return [Duty(name="sweep", every_seconds=5, run=counts(0))]

    add_duties("shop", source)
    add_duties("shop", source)  # the same app again: as when its `ready` runs twice
    assert asked == []
    assert [duty.name for duty in all_duties()] == [*own, "sweep"]
    assert duty_apps() == ("pg_queue", "shop")


def test_two_duties_of_one_name_are_refused() -> None:
    twice = [Duty(name="sweep", every_seconds=5, run=counts(0)) for _ in range(2)]
    with pytest.raises(ValueError, match="distinct names, got: sweep, sweep"):
        DutyRounds(twice)
