"""What the policies of a schedule make of what is due: catch-up, overlap, jitter, limit; the instant is injected."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.domain import jitter_of
from scheduler.tick import Pass, Tick
from tests.scheduler.rows import Rows

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)

CADENCES: list[dict[str, Any]] = [
    {"cron_string": "* * * * *"},
    {"kind": "interval", "cron_string": "PT1M", "interval_seconds": 60},
]
each_kind = pytest.mark.parametrize("cadence", CADENCES, ids=["crontab", "interval"])


def fired(rows: Rows, schedule_id: uuid.UUID) -> list[datetime]:
    """The occurrences that were fired."""
    return [run["scheduled_for"] for run in rows.runs(schedule_id) if run["state"] == "fired"]


def stretches(rows: Rows, schedule_id: uuid.UUID) -> list[tuple[str, datetime, datetime | None, int]]:
    """State, first, last and number of what was not fired."""
    columns = ("state", "scheduled_for", "span_end", "occurrences")
    return [tuple(run[c] for c in columns) for run in rows.runs(schedule_id) if run["state"] != "fired"]


def settle(rows: Rows) -> None:
    """End every run."""
    rows.session.execute("DELETE FROM pg_queue_message")


def passes(tick: Tick, at: datetime) -> list[Pass]:
    """Passes until nothing is due any more."""
    made = [tick.run(at=at)]
    while made[-1].has_moved and len(made) < 100:
        made.append(tick.run(at=at))
    return made


@each_kind
def test_all_missed_occurrences_are_fired_oldest_first_where_the_policy_says_all(
    tick: Tick, rows: Rows, cadence: dict[str, Any]
) -> None:
    schedule_id = rows.add(next_run_at=NOON - 4 * MINUTE, catch_up="all", **cadence)
    passes(tick, NOON + SECOND)
    assert fired(rows, schedule_id) == [NOON - minutes * MINUTE for minutes in (4, 3, 2, 1, 0)]
    assert stretches(rows, schedule_id) == []
    order = [datetime.fromisoformat(message["headers"]["scheduled_for"]) for message in rows.messages()]
    assert order == sorted(order)
    assert rows.get(schedule_id)["next_run_at"] == NOON + MINUTE


@each_kind
def test_of_all_missed_ones_those_before_the_window_are_recorded_and_the_rest_fired(
    tick: Tick, rows: Rows, cadence: dict[str, Any]
) -> None:
    schedule_id = rows.add(next_run_at=NOON - 10 * MINUTE, catch_up="all", grace_seconds=150, **cadence)
    passes(tick, NOON)
    assert fired(rows, schedule_id) == [NOON - 2 * MINUTE, NOON - MINUTE, NOON]
    assert stretches(rows, schedule_id) == [("no_leader", NOON - 10 * MINUTE, NOON - 3 * MINUTE, 8)]


@each_kind
def test_where_every_missed_one_is_before_the_window_none_is_fired(
    tick: Tick, rows: Rows, cadence: dict[str, Any]
) -> None:
    schedule_id = rows.add(
        next_run_at=NOON - HOUR, ends_at=NOON - 50 * MINUTE, catch_up="all", grace_seconds=60, **cadence
    )
    passes(tick, NOON)
    assert fired(rows, schedule_id) == []
    assert stretches(rows, schedule_id) == [("no_leader", NOON - HOUR, NOON - 51 * MINUTE, 10)]
    assert rows.get(schedule_id)["next_run_at"] is None


@each_kind
def test_nothing_missed_is_fired_where_the_policy_says_none(tick: Tick, rows: Rows, cadence: dict[str, Any]) -> None:
    late = rows.add(next_run_at=NOON - 10 * MINUTE, ends_at=NOON - 5 * MINUTE, catch_up="none", **cadence)
    on_time = rows.add(next_run_at=NOON - 2 * MINUTE, catch_up="none", **cadence)
    tick.run(at=NOON + SECOND)
    assert fired(rows, late) == []
    assert stretches(rows, late) == [("no_leader", NOON - 10 * MINUTE, NOON - 6 * MINUTE, 5)]
    assert fired(rows, on_time) == [NOON]
    assert stretches(rows, on_time) == [("no_leader", NOON - 2 * MINUTE, NOON - MINUTE, 2)]


@each_kind
def test_an_occurrence_is_skipped_while_the_run_before_goes_on(tick: Tick, rows: Rows, cadence: dict[str, Any]) -> None:
    schedule_id = rows.add(next_run_at=NOON, overlap="skip", **cadence)
    tick.run(at=NOON)
    assert tick.run(at=NOON + MINUTE).skipped == 1
    assert tick.run(at=NOON + 3 * MINUTE).skipped == 1
    settle(rows)
    tick.run(at=NOON + 4 * MINUTE)
    assert fired(rows, schedule_id) == [NOON, NOON + 4 * MINUTE]
    assert stretches(rows, schedule_id) == [
        ("skipped", NOON + MINUTE, None, 1),
        ("skipped", NOON + 2 * MINUTE, NOON + 3 * MINUTE, 2),
    ]


@each_kind
def test_an_occurrence_that_queues_is_fired_when_the_run_before_has_ended(
    tick: Tick, rows: Rows, cadence: dict[str, Any]
) -> None:
    schedule_id = rows.add(next_run_at=NOON, overlap="queue", **cadence)
    tick.run(at=NOON)
    assert tick.run(at=NOON + MINUTE).held == 1
    assert rows.get(schedule_id)["hold"] == "overlap"
    assert tick.run(at=NOON + 2 * MINUTE).seen == 0  # it is out of the way meanwhile
    assert tick.release_held() == 0
    settle(rows)
    assert tick.release_held() == 1
    tick.run(at=NOON + 2 * MINUTE)
    assert fired(rows, schedule_id) == [NOON, NOON + 2 * MINUTE]
    assert stretches(rows, schedule_id) == [("coalesced", NOON + MINUTE, None, 1)]
    assert rows.get(schedule_id)["hold"] is None


def test_another_schedules_run_and_one_started_by_hand_are_no_overlap(tick: Tick, rows: Rows) -> None:
    other = rows.add(next_run_at=NOON)
    tick.run(at=NOON)
    schedule_id = rows.add(next_run_at=NOON, overlap="skip")
    tick.run(at=NOON)
    assert (fired(rows, schedule_id), fired(rows, other)) == ([NOON], [NOON])


def test_a_run_that_waits_for_its_next_attempt_has_not_ended(tick: Tick, rows: Rows) -> None:
    schedule_id = rows.add(next_run_at=NOON, overlap="skip")
    tick.run(at=NOON)
    rows.change_all("pg_queue_message", attempts=1, run_after=datetime.now(UTC) + HOUR)
    tick.run(at=NOON + MINUTE)
    assert fired(rows, schedule_id) == [NOON]


@each_kind
def test_a_schedule_ends_when_it_was_fired_as_often_as_it_may(tick: Tick, rows: Rows, cadence: dict[str, Any]) -> None:
    schedule_id = rows.add(next_run_at=NOON, run_limit=2, **cadence)
    for minutes in range(4):
        tick.run(at=NOON + minutes * MINUTE)
    assert fired(rows, schedule_id) == [NOON, NOON + MINUTE]
    row = rows.get(schedule_id)
    assert (row["next_run_at"], row["run_count"], row["enabled"]) == (None, 2, True)


def test_what_is_not_fired_does_not_count_towards_the_limit(tick: Tick, rows: Rows) -> None:
    schedule_id = rows.add(next_run_at=NOON - 3 * HOUR, ends_at=NOON - 2 * HOUR, run_limit=1)
    tick.run(at=NOON)
    assert rows.get(schedule_id)["run_count"] == 0


def test_jitter_delays_the_message_by_the_same_part_every_time_and_not_the_occurrence(tick: Tick, rows: Rows) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + HOUR  # messages of the past are due at once
    ids = [rows.add_interval(60, next_run_at=start, jitter_seconds=600) for _ in range(20)]
    tick.run(at=start)
    tick.run(at=start + MINUTE)
    for schedule_id in ids:
        assert fired(rows, schedule_id) == [start, start + MINUTE]
    delays = {schedule_id: set[timedelta]() for schedule_id in map(str, ids)}
    for message in rows.messages():
        occurrence = datetime.fromisoformat(message["headers"]["scheduled_for"])
        delays[message["headers"]["schedule_id"]].add(message["run_after"] - occurrence)
    assert delays == {str(schedule_id): {jitter_of(schedule_id, 600)} for schedule_id in ids}
    assert len({delay for (delay,) in delays.values()}) > 10
    assert all(timedelta(0) <= delay < 600 * SECOND for (delay,) in delays.values())


def test_the_last_run_is_remembered_by_its_message(tick: Tick, rows: Rows) -> None:
    schedule_id = rows.add(next_run_at=NOON)
    tick.run(at=NOON)
    assert [rows.get(schedule_id)["last_run_id"]] == [message["id"] for message in rows.messages()]
