"""What the tick makes of schedules that are being handed over or back; the instant is injected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.tick import Tick
from tests.scheduler.rows import Rows
from tests.scheduler.tick.test_policies import each_kind, fired, passes, settle, stretches

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def minutes_to_noon(*minutes: int) -> list[datetime]:
    return [NOON - each * MINUTE for each in minutes]


def test_a_schedule_whose_last_sends_are_not_known_yet_is_left_alone(tick: Tick, rows: Rows) -> None:
    schedule_id = rows.add(next_run_at=NOON, hold="handover")
    assert tick.run(at=NOON + HOUR).seen == 0
    assert tick.release_held() == 0
    assert rows.get(schedule_id)["hold"] == "handover"


@each_kind
@pytest.mark.parametrize("catch_up", ["none", "latest", "all"])
def test_everything_that_was_missed_while_it_was_handed_over_is_fired_whatever_the_policy_says(
    tick: Tick, rows: Rows, cadence: dict[str, Any], catch_up: str
) -> None:
    schedule_id = rows.add(
        next_run_at=NOON - 4 * MINUTE, make_up_until=NOON - 2 * MINUTE + SECOND, catch_up=catch_up, **cadence
    )
    passes(tick, NOON - 2 * MINUTE + SECOND)
    assert fired(rows, schedule_id) == minutes_to_noon(4, 3, 2)
    assert stretches(rows, schedule_id) == []


@each_kind
def test_after_that_the_policy_counts_again(tick: Tick, rows: Rows, cadence: dict[str, Any]) -> None:
    schedule_id = rows.add(next_run_at=NOON - 4 * MINUTE, make_up_until=NOON - 3 * MINUTE, **cadence)
    passes(tick, NOON)
    assert fired(rows, schedule_id) == minutes_to_noon(4, 3, 0)
    assert stretches(rows, schedule_id) == [("coalesced", NOON - 2 * MINUTE, NOON - MINUTE, 2)]


@pytest.mark.parametrize(
    ("cadence", "period"),
    [({"kind": "interval", "cron_string": "PT10S", "interval_seconds": 10}, 10), ({"cron_string": "* * * * *"}, 60)],
    ids=["interval", "crontab"],
)
def test_a_short_catch_up_window_does_not_cut_off_what_the_hand_over_held_back(
    tick: Tick, rows: Rows, cadence: dict[str, Any], period: int
) -> None:
    first = NOON - (60 // period) * period * SECOND
    schedule_id = rows.add(next_run_at=first, make_up_until=NOON, grace_seconds=5, catch_up="none", **cadence)
    passes(tick, NOON)
    assert fired(rows, schedule_id) == [first + n * period * SECOND for n in range(60 // period + 1)]


@each_kind
def test_a_hand_over_that_took_long_makes_up_within_the_catch_up_window(
    tick: Tick, rows: Rows, cadence: dict[str, Any]
) -> None:
    schedule_id = rows.add(next_run_at=NOON - 10 * MINUTE, make_up_until=NOON, grace_seconds=150, **cadence)
    passes(tick, NOON)
    assert fired(rows, schedule_id) == minutes_to_noon(2, 1, 0)
    assert stretches(rows, schedule_id) == [("no_leader", NOON - 10 * MINUTE, NOON - 3 * MINUTE, 8)]


@each_kind
def test_what_occurs_up_to_the_roll_back_is_pgs_and_what_follows_beats(
    tick: Tick, rows: Rows, cadence: dict[str, Any]
) -> None:
    schedule_id = rows.add(next_run_at=NOON - MINUTE, beat_from=NOON, catch_up="all", **cadence)
    passes(tick, NOON - SECOND)
    assert rows.get(schedule_id)["hold"] is None
    passes(tick, NOON + 5 * MINUTE)
    assert fired(rows, schedule_id) == minutes_to_noon(1, 0)
    row = rows.get(schedule_id)
    assert (row["next_run_at"], row["hold"], row["firer"]) == (NOON + MINUTE, "handover", "pg")
    assert stretches(rows, schedule_id) == []


@each_kind
def test_the_latest_that_is_pgs_stands_in_for_what_was_missed_before_it(
    tick: Tick, rows: Rows, cadence: dict[str, Any]
) -> None:
    schedule_id = rows.add(next_run_at=NOON - 4 * MINUTE, beat_from=NOON - 2 * MINUTE + SECOND, **cadence)
    passes(tick, NOON)
    assert fired(rows, schedule_id) == minutes_to_noon(2)
    assert stretches(rows, schedule_id) == [("coalesced", NOON - 4 * MINUTE, NOON - 3 * MINUTE, 2)]
    assert rows.get(schedule_id)["next_run_at"] == NOON - MINUTE


@each_kind
def test_nothing_is_fired_of_a_schedule_whose_next_occurrence_is_beats(
    tick: Tick, rows: Rows, cadence: dict[str, Any]
) -> None:
    schedule_id = rows.add(next_run_at=NOON, beat_from=NOON - SECOND, **cadence)
    assert tick.run(at=NOON + HOUR).fired == 0
    row = rows.get(schedule_id)
    assert (row["next_run_at"], row["hold"]) == (NOON, "handover")
    assert rows.runs() == []
    assert tick.run(at=NOON + HOUR).seen == 0


@each_kind
def test_a_schedule_that_ends_before_the_roll_back_ends(tick: Tick, rows: Rows, cadence: dict[str, Any]) -> None:
    schedule_id = rows.add(
        next_run_at=NOON - 2 * MINUTE, ends_at=NOON - MINUTE, beat_from=NOON, catch_up="all", **cadence
    )
    passes(tick, NOON)
    assert fired(rows, schedule_id) == minutes_to_noon(2)
    assert rows.get(schedule_id)["next_run_at"] is None


@each_kind
def test_what_waits_for_the_run_before_is_still_pgs_when_the_roll_back_comes(
    tick: Tick, rows: Rows, cadence: dict[str, Any]
) -> None:
    schedule_id = rows.add(next_run_at=NOON - MINUTE, beat_from=NOON, overlap="queue", **cadence)
    tick.run(at=NOON - MINUTE)
    tick.run(at=NOON + MINUTE)
    row = rows.get(schedule_id)
    assert (row["next_run_at"], row["hold"]) == (NOON, "overlap")
    settle(rows)
    tick.release_held()
    tick.run(at=NOON + 2 * MINUTE)
    assert fired(rows, schedule_id) == minutes_to_noon(1, 0)
    assert rows.get(schedule_id)["hold"] == "handover"


@each_kind
def test_the_roll_back_of_one_schedule_moves_no_other(tick: Tick, rows: Rows, cadence: dict[str, Any]) -> None:
    rows.add(next_run_at=NOON, beat_from=NOON - SECOND, **cadence)
    other = rows.add(next_run_at=NOON, **cadence)
    assert tick.run(at=NOON).fired == 1
    assert fired(rows, other) == [NOON]
