"""The tick fires every kind: what Python evaluates, and what the statement does by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scheduler.recurrence import next_occurrences
from scheduler.tick import Tick
from tests.scheduler.rows import Rows

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
SUNSET = "sunset 52.52 13.405"


def test_a_clocked_schedule_is_fired_once_and_has_ended(tick: Tick, rows: Rows) -> None:
    schedule_id = rows.add(kind="clocked", cron_string="2026-03-10T12:00:00Z", next_run_at=NOON)
    assert [tick.run(at=NOON + n * SECOND).fired for n in range(2)] == [1, 0]
    assert [run["scheduled_for"] for run in rows.runs(schedule_id)] == [NOON]
    assert rows.get(schedule_id)["next_run_at"] is None


def test_a_solar_schedule_goes_on_from_day_to_day(tick: Tick, rows: Rows) -> None:
    sunsets = next_occurrences(kind="solar", expression=SUNSET, timezone="UTC", after=NOON, count=4)
    schedule_id = rows.add(kind="solar", cron_string=SUNSET, next_run_at=sunsets[0])
    tick.run(at=sunsets[0])
    tick.run(at=sunsets[2] + SECOND)
    assert [(run["state"], run["scheduled_for"]) for run in rows.runs(schedule_id)] == [
        ("fired", sunsets[0]),
        ("coalesced", sunsets[1]),
        ("fired", sunsets[2]),
    ]
    assert rows.get(schedule_id)["next_run_at"] == sunsets[3]


def test_all_missed_sunsets_are_fired_where_the_policy_says_so(tick: Tick, rows: Rows) -> None:
    sunsets = next_occurrences(kind="solar", expression=SUNSET, timezone="UTC", after=NOON, count=3)
    schedule_id = rows.add(
        kind="solar", cron_string=SUNSET, next_run_at=sunsets[0], catch_up="all", grace_seconds=10 * 86400
    )
    for _ in range(3):
        tick.run(at=sunsets[2] + SECOND)
    assert [run["scheduled_for"] for run in rows.runs(schedule_id) if run["state"] == "fired"] == sunsets


def test_kinds_of_one_text_are_told_apart(tick: Tick, rows: Rows) -> None:
    bad = rows.add(kind="solar", cron_string="* * * * *", next_run_at=NOON)
    good = rows.add(cron_string="* * * * *", next_run_at=NOON)
    made = tick.run(at=NOON)
    assert list(made.quarantined) == [str(bad)]
    assert len(rows.runs(good)) == 1
