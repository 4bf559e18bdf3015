"""What one pass does with what it finds due; the instant is injected."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pg_queue.api import task
from pg_queue.leader import Leadership
from scheduler.tick import Tick, make_tick
from scheduler.tick import contract as ticking
from tests.pg_queue.worker.conftest import own_tasks  # noqa: F401  for these tasks too
from tests.scheduler.rows import Rows

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def test_a_due_occurrence_becomes_one_message_and_one_run_of_the_same_id(tick: Tick, rows: Rows) -> None:
    schedule_id = rows.add(
        next_run_at=NOON, queue="reports", priority=7, organization_id="acme", max_attempts=9, cron_string="*/5 * * * *"
    )

    made = tick.run(at=NOON + SECOND)

    [run], [message] = rows.runs(), rows.messages()
    assert made.fired == 1
    assert run["id"] == message["id"]
    assert (run["schedule_id"], run["scheduled_for"], run["state"], run["origin"]) == (
        schedule_id,
        NOON,
        "fired",
        "schedule",
    )
    assert (run["firer"], run["term"], run["organization_id"], run["occurrences"]) == ("pg", 1, "acme", 1)
    assert run["fired_at"] is not None
    assert (message["task"], message["args"], message["kwargs"]) == ("echo", ["a"], {"b": 1})
    assert (message["queue"], message["priority"], message["max_attempts"]) == ("reports", 7, 9)
    assert (message["organization_id"], message["report_to"]) == ("acme", "schedule")
    assert message["headers"] == {"schedule_id": str(schedule_id), "scheduled_for": "2026-03-10T12:00:00+00:00"}
    row = rows.get(schedule_id)
    assert (row["last_run_at"], row["next_run_at"]) == (NOON, NOON + 5 * MINUTE)


@pytest.mark.usefixtures("own_tasks")
def test_a_message_keeps_to_what_its_task_says_of_attempts_and_expiry(
    leadership: Leadership, rows: Rows, settings: Any
) -> None:
    settings.PG_QUEUE = dict(getattr(settings, "PG_QUEUE", {}))  # what was composed for other tasks is forgotten

    @task("test.patient", max_attempts=7, expires=timedelta(hours=2))
    def patient() -> None: ...

    @task("test.once", delivery="at_most_once")
    def once() -> None: ...

    for name, own in (("test.patient", None), ("test.patient", 2), ("test.once", 5)):
        rows.add(next_run_at=NOON, task=name, max_attempts=own)
    make_tick(leadership).run(at=NOON)

    messages = rows.messages()
    assert sorted((m["task"], m["max_attempts"]) for m in messages) == [
        ("test.once", 1),
        ("test.patient", 2),
        ("test.patient", 7),
    ]
    for message in messages:
        if message["task"] == "test.once":
            assert "expires_at" not in message["headers"]
        else:
            until = datetime.fromisoformat(message["headers"]["expires_at"])
            assert abs(until - message["run_after"] - timedelta(hours=2)) < timedelta(milliseconds=1)


def test_an_occurrence_is_fired_once_however_often_the_pass_is_made(tick: Tick, rows: Rows) -> None:
    rows.add(next_run_at=NOON)
    assert [tick.run(at=NOON).fired for _ in range(3)] == [1, 0, 0]
    assert len(rows.runs()) == len(rows.messages()) == 1


def test_what_is_not_due_yet_paused_quarantined_or_fired_by_beat_is_left_alone(tick: Tick, rows: Rows) -> None:
    left = [
        rows.add(next_run_at=NOON + timedelta(microseconds=1)),
        rows.add(next_run_at=NOON, enabled=False),
        rows.add(next_run_at=NOON, quarantined_at=NOON),
        rows.add(next_run_at=NOON, firer="beat"),
        rows.add(next_run_at=None),
    ]
    before = [rows.get(schedule_id) for schedule_id in left]
    assert tick.run(at=NOON).seen == 0
    assert [rows.get(schedule_id) for schedule_id in left] == before
    assert rows.runs() == rows.messages() == []


def test_the_latest_missed_crontab_occurrence_stands_in_for_the_others(tick: Tick, rows: Rows) -> None:
    schedule_id = rows.add(next_run_at=NOON - 10 * MINUTE)

    made = tick.run(at=NOON + 30 * SECOND)

    stretch, fired = rows.runs(schedule_id)
    assert (made.fired, made.coalesced) == (1, 1)
    assert (stretch["state"], stretch["scheduled_for"], stretch["span_end"], stretch["occurrences"]) == (
        "coalesced",
        NOON - 10 * MINUTE,
        NOON - MINUTE,
        10,
    )
    assert (fired["state"], fired["scheduled_for"], fired["occurrences"]) == ("fired", NOON, 1)
    assert [message["id"] for message in rows.messages()] == [fired["id"]]
    assert rows.get(schedule_id)["next_run_at"] == NOON + MINUTE


def test_the_latest_missed_interval_stands_in_for_the_others_on_the_rows_own_grid(tick: Tick, rows: Rows) -> None:
    anchor = NOON + timedelta(seconds=2.5)
    schedule_id = rows.add_interval(7, next_run_at=anchor)

    tick.run(at=anchor + 23 * SECOND)

    stretch, fired = rows.runs(schedule_id)
    assert (stretch["scheduled_for"], stretch["span_end"], stretch["occurrences"]) == (
        anchor,
        anchor + 14 * SECOND,
        3,
    )
    assert fired["scheduled_for"] == anchor + 21 * SECOND
    assert rows.get(schedule_id)["next_run_at"] == anchor + 28 * SECOND


def test_one_missed_occurrence_is_a_single_one_not_a_stretch(tick: Tick, rows: Rows) -> None:
    rows.add(next_run_at=NOON - MINUTE)
    rows.add_interval(60, next_run_at=NOON - MINUTE)
    tick.run(at=NOON)
    assert [(run["state"], run["span_end"], run["occurrences"]) for run in rows.runs()] == [
        ("coalesced", None, 1),
        ("coalesced", None, 1),
        ("fired", None, 1),
        ("fired", None, 1),
    ]


def test_an_interval_exactly_on_its_grid_moves_one_period_on(tick: Tick, rows: Rows) -> None:
    schedule_id = rows.add_interval(0.1, next_run_at=NOON)
    tick.run(at=NOON + timedelta(microseconds=300_000))
    assert rows.runs(schedule_id)[-1]["scheduled_for"] == NOON + timedelta(microseconds=300_000)
    assert rows.get(schedule_id)["next_run_at"] == NOON + timedelta(microseconds=400_000)


@pytest.mark.parametrize(
    ("cron_string", "missed", "grace_seconds", "late"),
    [
        ("0 * * * *", 4, 600, 601 * SECOND),
        ("0 */4 * * *", 1, None, HOUR + SECOND),
    ],
    ids=["its own window", "the default window"],
)
def test_what_is_older_than_its_window_is_recorded_and_not_fired(
    tick: Tick, rows: Rows, cron_string: str, missed: int, grace_seconds: int | None, late: timedelta
) -> None:
    first = NOON - 4 * HOUR if missed == 1 else NOON - (missed - 1) * HOUR
    at = (NOON - 4 * HOUR if missed == 1 else NOON) + late
    schedule_id = rows.add(
        cron_string=cron_string, next_run_at=first, grace_seconds=grace_seconds, last_run_at=first - HOUR
    )

    made = tick.run(at=at)

    [stretch] = rows.runs(schedule_id)
    assert (made.fired, made.expired) == (0, 1)
    assert (stretch["state"], stretch["scheduled_for"], stretch["occurrences"]) == ("no_leader", first, missed)
    assert stretch["span_end"] == (None if missed == 1 else NOON)
    assert rows.messages() == []
    row = rows.get(schedule_id)
    assert row["last_run_at"] == first - HOUR
    assert row["next_run_at"] > at


def test_an_occurrence_within_its_window_by_a_second_is_fired(tick: Tick, rows: Rows) -> None:
    rows.add(cron_string="0 * * * *", next_run_at=NOON, grace_seconds=600)
    assert tick.run(at=NOON + 600 * SECOND).fired == 1


def test_a_stretch_that_began_under_an_earlier_leader_is_expired_not_leaderless(
    leadership: Leadership, rows: Rows
) -> None:
    tick = make_tick(replace(leadership, previous_heartbeat_at=NOON - 2 * HOUR, since=NOON))
    before = rows.add(cron_string="0 9 * * *", next_run_at=NOON - 3 * HOUR)
    within = rows.add(cron_string="30 10 * * *", next_run_at=NOON - 90 * MINUTE)
    tick.run(at=NOON + SECOND)
    assert [run["state"] for run in rows.runs(before)] == ["expired"]
    assert [run["state"] for run in rows.runs(within)] == ["no_leader"]


def test_the_last_occurrence_before_the_end_is_fired_and_none_after_it(tick: Tick, rows: Rows) -> None:
    ended = rows.add(next_run_at=NOON - 3 * MINUTE, ends_at=NOON - MINUTE)
    interval = rows.add_interval(60, next_run_at=NOON - 3 * MINUTE, ends_at=NOON - MINUTE)
    over = rows.add(next_run_at=NOON - 3 * MINUTE, ends_at=NOON - 3 * MINUTE)

    tick.run(at=NOON)

    for schedule_id in (ended, interval):
        assert [run["scheduled_for"] for run in rows.runs(schedule_id)] == [NOON - 3 * MINUTE, NOON - 2 * MINUTE]
        assert rows.get(schedule_id)["next_run_at"] is None
    assert rows.runs(over) == []
    assert rows.get(over)["next_run_at"] is None


def test_a_due_instant_off_the_grid_is_an_occurrence(tick: Tick, rows: Rows) -> None:
    schedule_id = rows.add(cron_string="0 * * * *", next_run_at=NOON - 90 * SECOND)
    tick.run(at=NOON - 60 * SECOND)
    assert [(run["state"], run["scheduled_for"]) for run in rows.runs()] == [("fired", NOON - 90 * SECOND)]
    assert rows.get(schedule_id)["next_run_at"] == NOON


def test_older_occurrences_are_enqueued_first(tick: Tick, rows: Rows) -> None:
    instants = [NOON - minutes * MINUTE for minutes in (1, 5, 3, 2, 4)]
    for instant in instants:
        rows.add(cron_string=f"{instant.minute} * * * *", next_run_at=instant)
    tick.run(at=NOON)
    scheduled_for = [datetime.fromisoformat(message["headers"]["scheduled_for"]) for message in rows.messages()]
    assert scheduled_for == sorted(instants)


def test_ids_are_of_version_7_and_tell_the_time(tick: Tick, rows: Rows) -> None:
    rows.add_many(300, NOON)
    tick.run(at=NOON)
    ids: list[uuid.UUID] = [message["id"] for message in rows.messages()]
    assert {identifier.version for identifier in ids} == {7}
    assert {identifier.variant for identifier in ids} == {uuid.RFC_4122}
    clock = time.time() * 1000
    assert all(abs(clock - (identifier.int >> 80)) < 60_000 for identifier in ids)
    assert len(set(ids)) == 300


def test_ten_thousand_rows_of_many_cadences_are_fired_each_once_in_bounded_batches(tick: Tick, rows: Rows) -> None:
    rows.add_many(10_000, NOON, cadences=50)
    made = tick.run(at=NOON + SECOND)
    assert (made.fired, len(made.batch_seconds) >= 2) == (10_000, True)
    assert rows.count("SELECT count(DISTINCT schedule_id) FROM scheduler_schedulerun WHERE state = 'fired'") == 10_000
    assert rows.count("SELECT count(*) FROM pg_queue_message JOIN scheduler_schedulerun USING (id)") == 10_000
    assert rows.count("SELECT count(*) FROM scheduler_pgperiodicschedule WHERE next_run_at <= '2026-03-10 12:00Z'") == 0


@pytest.mark.postgresql("psycopg's statements are counted; SQLite's are in test_sqlite.py")
def test_the_number_of_statements_does_not_grow_with_the_rows(
    tick: Tick, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    execute = psycopg.Cursor.execute

    def note(self: psycopg.Cursor[object], query: object, *args: object, **options: object) -> object:
        sent.append(query)
        return execute(self, query, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(psycopg.Cursor, "execute", note)
    for limit in ("_EVALUATION_SECONDS", "_BATCH_SECONDS"):  # a slow machine would make it stamp and split more often
        monkeypatch.setattr(ticking, limit, 60.0)
    tick.run(at=NOON)  # the first pass chooses how to plan
    per_batch = []
    for hours, rows_due in enumerate((1, 20, 40, 1_200)):
        rows.add_many(rows_due, NOON + hours * HOUR, cadences=rows_due)
        sent.clear()
        made = tick.run(at=NOON + hours * HOUR)
        assert made.fired >= rows_due
        per_batch.append(len(sent) / len(made.batch_seconds))
    assert per_batch[0] == per_batch[1] == per_batch[2] <= 8
    assert per_batch[3] <= per_batch[0] + 1
