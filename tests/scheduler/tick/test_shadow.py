"""What the tick makes of schedules that Beat fires: it records what it would have fired, and does nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pg_queue.leader import PostgresLeadership
from scheduler.tick import PostgresTick, Tick
from tests.scheduler.rows import Rows

pytestmark = pytest.mark.postgresql("beside SQLite no Celery Beat fires anything")

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def shadow(leadership: PostgresLeadership) -> Tick:
    """A tick of Beat's schedules."""
    return PostgresTick(leadership, is_shadow=True)


def test_what_would_have_been_fired_is_recorded_and_nothing_is_enqueued(shadow: Tick, rows: Rows) -> None:
    schedule_id = rows.add(next_run_at=NOON, firer="beat", last_run_at=NOON - MINUTE, organization_id="acme")
    assert shadow.run(at=NOON + SECOND).fired == 1
    [run] = rows.runs()
    assert (run["schedule_id"], run["scheduled_for"], run["organization_id"]) == (schedule_id, NOON, "acme")
    assert (run["origin"], run["state"], run["firer"]) == ("shadow", "fired", "pg")
    assert rows.messages() == []
    row = rows.get(schedule_id)
    assert (row["next_run_at"], row["last_run_at"], row["last_run_id"]) == (NOON + MINUTE, NOON - MINUTE, None)


def test_the_shadow_leaves_pgs_schedules_alone_and_the_tick_beats(tick: Tick, shadow: Tick, rows: Rows) -> None:
    rows.add(next_run_at=NOON)
    rows.add(next_run_at=NOON, firer="beat")
    assert (shadow.run(at=NOON).fired, tick.run(at=NOON).fired) == (1, 1)
    assert (shadow.run(at=NOON).seen, tick.run(at=NOON).seen) == (0, 0)
    assert len(rows.messages()) == 1


def test_a_shadow_beside_the_occurrence_claims_nothing(tick: Tick, shadow: Tick, rows: Rows) -> None:
    schedule_id = rows.add(next_run_at=NOON, firer="beat")
    shadow.run(at=NOON)
    rows.change(schedule_id, firer="pg", next_run_at=NOON)
    assert tick.run(at=NOON).fired == 1
    assert sorted(run["origin"] for run in rows.runs(schedule_id)) == ["schedule", "shadow"]


def test_an_interval_that_a_send_has_moved_back_spoils_no_batch(shadow: Tick, rows: Rows) -> None:
    schedule_id = rows.add_interval(60, next_run_at=NOON, firer="beat")
    other = rows.add(next_run_at=NOON + MINUTE, firer="beat")
    shadow.run(at=NOON)
    rows.change(schedule_id, next_run_at=NOON)
    shadow.run(at=NOON + MINUTE)
    assert [run["scheduled_for"] for run in rows.runs(other)] == [NOON + MINUTE]
    assert NOON + MINUTE in [run["scheduled_for"] for run in rows.runs(schedule_id)]


def test_what_was_missed_is_told_in_shadow_too(shadow: Tick, rows: Rows) -> None:
    schedule_id = rows.add(next_run_at=NOON - 2 * HOUR, firer="beat", cron_string="0 * * * *")
    shadow.run(at=NOON + SECOND)
    assert [(run["origin"], run["state"], run["scheduled_for"]) for run in rows.runs(schedule_id)] == [
        ("shadow", "coalesced", NOON - 2 * HOUR),
        ("shadow", "fired", NOON),
    ]


def test_a_bad_row_of_beats_is_quarantined_in_the_mirror_alone(shadow: Tick, rows: Rows) -> None:
    bad = rows.add(next_run_at=NOON, firer="beat", timezone="Mars/Base")
    good = rows.add(next_run_at=NOON, firer="beat")
    made = shadow.run(at=NOON)
    assert (list(made.quarantined), len(rows.runs(good))) == ([str(bad)], 1)


def test_overlap_means_nothing_to_the_shadow(shadow: Tick, rows: Rows) -> None:
    schedule_id = rows.add(next_run_at=NOON, firer="beat", overlap="skip")
    for minutes in range(3):
        shadow.run(at=NOON + minutes * MINUTE)
    assert [run["state"] for run in rows.runs(schedule_id)] == ["fired"] * 3
