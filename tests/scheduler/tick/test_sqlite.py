"""What is SQLite's own about the tick: what it costs, what is cut off, a full disk, and rows that mean nothing.

What it decides is held to by the other files here, which tests/scheduler/test_on_sqlite.py runs on SQLite.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pg_queue.errors import LeadershipLost
from pg_queue.leader import SqliteLeadership, sqlite
from pg_queue.process import StopRequest
from scheduler.lookout import make_lookout
from scheduler.tick import contract, make_tick
from tests.processes import SqliteFile
from tests.scheduler.rows import SqliteRows, lead

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def rows(sqlite_file: SqliteFile) -> Iterator[SqliteRows]:
    """The file's tables."""
    found = SqliteRows(sqlite_file)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def leadership(sqlite_file: SqliteFile) -> Iterator[SqliteLeadership]:
    """A lead on the file."""
    with lead(sqlite_file) as won:
        assert isinstance(won, SqliteLeadership)
        yield won


class Counting:
    """A connection that counts what it is asked to do."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection, self.statements = connection, 0

    def execute(self, *arguments: Any) -> Any:
        self.statements += 1
        return self._connection.execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        self.statements += 1
        return self._connection.executemany(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_the_number_of_statements_does_not_grow_with_the_rows(
    leadership: SqliteLeadership, rows: SqliteRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("_EVALUATION_SECONDS", "_BATCH_SECONDS"):  # a slow machine would make it stamp and split more often
        monkeypatch.setattr(contract, limit, 60.0)
    session: Any = Counting(leadership.session)
    tick = make_tick(replace(leadership, session=session))
    per_batch = []
    for hours, rows_due in enumerate((1, 20, 1_200)):
        rows.add_many(rows_due, NOON + hours * HOUR, cadences=rows_due)
        session.statements = 0
        made = tick.run(at=NOON + hours * HOUR)
        assert made.fired >= rows_due
        per_batch.append(session.statements / len(made.batch_seconds))
    assert per_batch[0] == per_batch[1] == per_batch[2] <= 10


def test_what_is_due_is_found_by_the_index(leadership: SqliteLeadership, rows: SqliteRows) -> None:
    tick: Any = make_tick(leadership)
    window = {"at": "2026-03-10 12:00:00", "after_at": "", "after_id": "", "limit": 100}
    plan = leadership.session.execute(f"EXPLAIN QUERY PLAN {tick._statements.due}", window).fetchall()
    found = [step[3] for step in plan if "scheduler_pgperiodicschedule" in step[3]]
    assert found
    assert all("USING INDEX scheduler_schedule_due" in step for step in found)
    assert not any("TEMP B-TREE" in step[3] for step in plan)


def test_a_batch_that_takes_longer_than_the_leader_may_is_made_smaller_and_no_lead_is_lost(
    leadership: SqliteLeadership, rows: SqliteRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred take too long; one, not even on a machine that stalls."""
    monkeypatch.setattr(sqlite, "BATCH_SECONDS", 2.0)
    monkeypatch.setattr(sqlite, "_STEPS_BETWEEN_LOOKS", 1000)
    rows.session.execute(
        "CREATE VIEW slow AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 300000)"
        " SELECT count(*) AS steps FROM n"
    )
    rows.session.execute("CREATE TABLE dawdled (steps integer)")
    rows.session.execute(
        "CREATE TRIGGER dawdle AFTER INSERT ON pg_queue_message BEGIN INSERT INTO dawdled SELECT steps FROM slow; END"
    )
    rows.add_many(100, NOON)
    made = make_tick(leadership).run(at=NOON)
    assert made.fired == len(rows.messages()) == 100
    assert len(made.batch_seconds) > 2
    assert leadership.stamp() > leadership.since


def test_a_full_disk_loses_the_batch_as_a_whole_and_blames_no_row(
    leadership: SqliteLeadership, rows: SqliteRows
) -> None:
    rows.add_many(200, NOON)
    pages = rows.count("PRAGMA page_count")
    leadership.session.execute(f"PRAGMA max_page_count = {pages + 2}")
    tick = make_tick(leadership)
    with pytest.raises(sqlite3.OperationalError) as full:
        tick.run(at=NOON)
    assert full.value.sqlite_errorname == "SQLITE_FULL"
    assert rows.runs() == rows.messages() == []
    assert rows.count("SELECT count(*) FROM scheduler_pgperiodicschedule WHERE quarantined_at IS NOT NULL") == 0

    leadership.session.execute("PRAGMA max_page_count = 1000000")
    assert tick.run(at=NOON).fired == 200


def test_a_leader_whose_term_is_over_leaves_nothing_of_its_batch(
    leadership: SqliteLeadership, rows: SqliteRows
) -> None:
    rows.add_many(20, NOON)
    tick = make_tick(leadership)
    rows.session.execute("UPDATE pg_queue_leader SET term = term + 1")
    with pytest.raises(LeadershipLost):
        tick.run(at=NOON)
    assert rows.runs() == rows.messages() == []
    assert (
        rows.count("SELECT count(*) FROM scheduler_pgperiodicschedule WHERE next_run_at <> '2026-03-10 12:00:00'") == 0
    )


@pytest.mark.parametrize(
    "columns",
    [
        {"next_run_at": "0044-03-15 00:00:00 BC"},
        {"next_run_at": "2026-03-10 11:00:00 o'clock"},
        {"ends_at": "2026-13-45"},
        {"cron_string": b"\xff\xfe"},
        {"jitter_seconds": 5, "pipeline_id": "not an id"},
        {"grace_seconds": 10**17},
        {"grace_seconds": 10**17, "catch_up": "all"},
        {"grace_seconds": "long", "catch_up": "all"},
        {"jitter_seconds": "some"},
        {"jitter_seconds": 10**17},
        {"queue": b"\xff"},
        {"kind": "interval", "interval_seconds": 3e11, "cron_string": "PT3E11S"},
    ],
    ids=str,
)
def test_a_row_that_means_nothing_is_set_aside_and_the_others_are_fired(
    leadership: SqliteLeadership, rows: SqliteRows, columns: dict[str, Any]
) -> None:
    """SQLite stores what it is given; the constraints only compare texts."""
    good = {rows.add(next_run_at=NOON - MINUTE), rows.add(next_run_at=NOON)}
    rows.add(**{"next_run_at": NOON, "beat_name": "bad", **columns})
    made = make_tick(leadership).run(at=NOON)
    fired = rows.session.execute("SELECT schedule_id FROM scheduler_schedulerun WHERE state = 'fired'").fetchall()
    assert {uuid.UUID(schedule_id) for (schedule_id,) in fired} == good
    assert len(made.quarantined) == 1
    [(error,)] = rows.session.execute(
        "SELECT quarantine_error FROM scheduler_pgperiodicschedule WHERE quarantined_at IS NOT NULL"
    ).fetchall()
    assert error
    assert make_tick(leadership).run(at=NOON).seen == 0


def test_a_later_instant_that_means_nothing_does_not_keep_the_others_from_being_waited_for(
    leadership: SqliteLeadership, rows: SqliteRows
) -> None:
    rows.add(next_run_at="2999-03-10 11:00:00 o'clock")
    seconds, _ = make_lookout(leadership, StopRequest()).outlook()
    assert seconds == 0  # it is looked again and again


def test_instants_are_stored_as_django_stores_them(leadership: SqliteLeadership, rows: SqliteRows) -> None:
    """Another text for the same instant would be another occurrence to the unique constraint."""
    schedule_id = rows.add_interval(0.5, next_run_at=NOON)
    tick = make_tick(leadership)
    for steps in range(3):
        tick.run(at=NOON + steps * timedelta(seconds=0.5))
    found = rows.session.execute("SELECT scheduled_for FROM scheduler_schedulerun ORDER BY 1").fetchall()
    assert [text for (text,) in found] == [
        "2026-03-10 12:00:00",
        "2026-03-10 12:00:00.500000",
        "2026-03-10 12:00:01",
    ]
    rows.change(schedule_id, next_run_at=NOON + timedelta(seconds=0.5))
    assert tick.run(at=NOON + timedelta(seconds=0.5)).taken == 1
