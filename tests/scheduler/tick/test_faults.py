"""Rows that cannot be fired, races between the survey and the statement that fires, and a server in trouble."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db.models import DateTimeField

from pg_queue.leader import Leadership, PostgresLeadership
from scheduler.models import PgPeriodicSchedule
from scheduler.tick import PostgresTick, Tick, make_tick
from tests.processes import LOCKED_HERE, ProcessDatabase
from tests.scheduler.rows import Rows, SqliteRows, lead

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WAITS_AT_GATE = f"SELECT count(*) FROM pg_locks WHERE objid = 42 AND NOT granted AND {LOCKED_HERE}"


class InterruptedTick(PostgresTick):
    """A tick during which something happens between the survey and the statement that fires."""

    def __init__(self, leadership: PostgresLeadership, interrupt: Callable[[], Any]) -> None:
        super().__init__(leadership)
        self.interrupt: Callable[[], Any] | None = interrupt

    def _write(self, parameters: Any, is_careful: bool) -> Any:
        if self.interrupt is not None:
            interrupt, self.interrupt = self.interrupt, None
            interrupt()
        return super()._write(parameters, is_careful)


def interrupted(leadership: Leadership, interrupt: Callable[[], Any]) -> Tick:
    """A tick during which something happens between the survey and the statement that fires.

    On SQLite before the transaction that fires: within it nobody else can write.
    """
    if isinstance(leadership, PostgresLeadership):
        return InterruptedTick(leadership, interrupt)
    tick = make_tick(leadership)
    evaluate, waiting = tick._evaluate, [interrupt]

    def evaluate_and_be_interrupted(*arguments: Any) -> Any:
        answers = evaluate(*arguments)
        if waiting:
            waiting.pop()()
        return answers

    tick._evaluate = evaluate_and_be_interrupted  # type: ignore[method-assign]
    return tick


def fired_ids(rows: Rows) -> set[Any]:
    return {run["schedule_id"] for run in rows.runs() if run["state"] == "fired"}


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"cron_string": "61 * * * *"}, "expression"),
        ({"cron_string": "not a cron"}, "expression"),
        ({"cron_string": ""}, "expression"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"next_run_at": "1899-12-31 23:59:59+00"}, "next_run_at"),
        ({"kind": "interval", "cron_string": "PT1S", "interval_seconds": 1e-12}, "interval_seconds"),
        ({"kind": "interval", "cron_string": "PT1S", "interval_seconds": 1e300}, "interval_seconds"),
        ({"kind": "interval", "cron_string": "PT1S", "interval_seconds": math.nan}, "interval_seconds"),
        ({"kind": "interval", "cron_string": "PT1S", "interval_seconds": math.inf}, "interval_seconds"),
        ({"max_attempts": 0}, "pg_queue_message_attempts_range"),
    ],
)
def test_a_row_that_cannot_be_fired_is_set_aside_with_its_error_and_the_others_are_fired(
    tick: Tick, rows: Rows, columns: dict[str, Any], named: str
) -> None:
    good = {rows.add(next_run_at=NOON - MINUTE), rows.add_interval(60, next_run_at=NOON), rows.add(next_run_at=NOON)}
    bad = rows.add(**{"next_run_at": NOON, **columns})
    good |= {rows.add(next_run_at=NOON), rows.add(next_run_at=NOON)}

    made = tick.run(at=NOON)

    assert fired_ids(rows) == good
    assert list(made.quarantined) == [str(bad)]
    row = rows.get(bad)
    assert named in row["quarantine_error"]
    assert row["quarantined_at"] is not None
    assert row["next_run_at"] is not None
    assert tick.run(at=NOON).seen == 0


@pytest.mark.parametrize(
    "column", [field.column for field in PgPeriodicSchedule._meta.concrete_fields if isinstance(field, DateTimeField)]
)
@pytest.mark.parametrize("instant", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "12026-01-01 00:00:00+00"])
def test_an_instant_that_python_cannot_hold_is_refused_by_the_database(rows: Rows, column: str, instant: str) -> None:
    """One such row would break every list of schedules."""
    if isinstance(rows, SqliteRows) and instant[0].isdigit():
        pytest.skip("PostgreSQL only: SQLite compares texts, and this one looks like an instant")
    refusals = (psycopg.errors.CheckViolation, sqlite3.IntegrityError)
    with pytest.raises(refusals, match="scheduler_schedule_instants_readable"):
        rows.add(**{"next_run_at": NOON, column: instant})


def test_rows_that_break_the_whole_statement_are_found_among_many(tick: Tick, rows: Rows) -> None:
    rows.add_many(500, NOON, cadences=7)
    bad = {rows.add(cron_string="0 * * * *", next_run_at=NOON, max_attempts=0) for _ in range(3)}
    made = tick.run(at=NOON)
    assert made.fired == 500
    assert set(made.quarantined) == {str(schedule_id) for schedule_id in bad}


def test_a_schedule_edited_between_survey_and_fire_is_not_fired_by_its_old_cadence(
    leadership: Leadership, rows: Rows
) -> None:
    edited, other = rows.add(next_run_at=NOON), rows.add(next_run_at=NOON)
    tick = interrupted(leadership, lambda: rows.change(edited, cron_string="30 * * * *"))

    tick.run(at=NOON)
    assert fired_ids(rows) == {other}
    assert rows.get(edited)["next_run_at"] == NOON

    tick.run(at=NOON)
    assert rows.get(edited)["next_run_at"] == NOON + 30 * MINUTE


@pytest.mark.parametrize("moved_by", [-MINUTE, MINUTE], ids=["back", "on"])
def test_a_schedule_moved_between_survey_and_fire_is_not_fired_by_the_verdict_on_its_old_instant(
    leadership: Leadership, rows: Rows, moved_by: timedelta
) -> None:
    moved = rows.add(next_run_at=NOON)
    tick = interrupted(leadership, lambda: rows.change(moved, next_run_at=NOON + moved_by))
    tick.run(at=NOON)
    assert rows.runs() == rows.messages() == []

    tick.run(at=NOON + MINUTE)
    assert [run["scheduled_for"] for run in rows.runs(moved)] == sorted({NOON + moved_by, NOON + MINUTE})


@pytest.mark.parametrize(
    "change",
    [{"enabled": False}, {"firer": "beat"}, {"quarantined_at": NOON}, {"next_run_at": None}],
    ids=["paused", "handed over", "quarantined", "ended"],
)
def test_a_schedule_taken_out_between_survey_and_fire_is_not_fired(
    leadership: Leadership, rows: Rows, change: dict[str, Any]
) -> None:
    taken_out, other = rows.add(next_run_at=NOON), rows.add(next_run_at=NOON)
    interrupted(leadership, lambda: rows.change(taken_out, **change)).run(at=NOON)
    assert fired_ids(rows) == {other}


@pytest.mark.postgresql("SQLite has no isolation levels to choose")
def test_an_edit_during_a_tick_costs_no_term_where_the_database_keeps_snapshots(
    process_database: ProcessDatabase, rows: Rows
) -> None:
    rows.session.execute(
        f"ALTER DATABASE \"{process_database.name}\" SET default_transaction_isolation = 'repeatable read'"
    )
    edited, other = rows.add(next_run_at=NOON), rows.add(next_run_at=NOON)
    with lead(process_database) as leadership:
        InterruptedTick(leadership, lambda: rows.change(edited, enabled=False)).run(at=NOON)
    assert fired_ids(rows) == {other}


def test_a_schedule_deleted_between_survey_and_fire_is_not_fired(leadership: Leadership, rows: Rows) -> None:
    deleted, other = rows.add(next_run_at=NOON), rows.add(next_run_at=NOON)

    def delete() -> None:
        rows.delete(deleted)

    interrupted(leadership, delete).run(at=NOON)
    assert fired_ids(rows) == {other}
    assert len(rows.messages()) == 1


@pytest.mark.postgresql("SQLite has one writer at a time, and locks no rows")
def test_a_row_that_somebody_holds_is_left_for_the_next_pass_without_waiting(
    process_database: ProcessDatabase, tick: Tick, rows: Rows
) -> None:
    held, other = rows.add(next_run_at=NOON), rows.add(next_run_at=NOON)
    with process_database.connect() as editor:
        with editor.transaction():
            editor.execute("SELECT FROM scheduler_pgperiodicschedule WHERE pipeline_id = %s FOR UPDATE", [held])
            assert tick.run(at=NOON).fired == 1
            assert fired_ids(rows) == {other}
            assert not tick.run(at=NOON).has_moved
        assert tick.run(at=NOON).fired == 1
    assert fired_ids(rows) == {held, other}


def test_an_occurrence_already_in_the_ledger_is_not_fired_again_and_the_schedule_goes_on(
    tick: Tick, rows: Rows
) -> None:
    schedule_id, other = rows.add(next_run_at=NOON), rows.add(next_run_at=NOON)
    tick.run(at=NOON)
    rows.change(schedule_id, next_run_at=NOON)

    made = tick.run(at=NOON)

    assert (made.fired, made.taken) == (0, 1)
    assert len(rows.runs(schedule_id)) == 1
    assert len(rows.messages()) == 2
    assert rows.get(schedule_id)["next_run_at"] == NOON + MINUTE
    assert fired_ids(rows) == {schedule_id, other}


@pytest.mark.postgresql("SQLite has one writer at a time")
def test_two_ticks_at_one_instant_on_two_sessions_fire_each_occurrence_once(
    process_database: ProcessDatabase, rows: Rows, leadership: PostgresLeadership
) -> None:
    """The lock and the stamp bypassed: one tick is held in the middle of its statement while the other one runs."""
    rows.add_many(90, NOON, cadences=3)
    rows.session.execute(
        """
        CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(42);
            RETURN NULL;
        END $$;
        CREATE TRIGGER gate AFTER INSERT ON pg_queue_message FOR EACH STATEMENT EXECUTE FUNCTION wait_at_gate();
        """
    )
    first = PostgresTick(_Unstamped(leadership, leadership.session))
    with process_database.connect() as gate, process_database.connect() as session, ThreadPoolExecutor() as pool:
        session.execute("SET statement_timeout = '60s'")
        second = PostgresTick(_Unstamped(leadership, session))
        gate.execute("SELECT pg_advisory_lock(42)")
        held = pool.submit(first.run, at=NOON)
        while not rows.count(WAITS_AT_GATE):
            assert not held.done()
        rows.add_many(10, NOON)
        other = pool.submit(second.run, at=NOON)
        while rows.count(WAITS_AT_GATE) < 2:
            assert not other.done(), other.result()
        gate.execute("SELECT pg_advisory_unlock(42)")
        made = [held.result(90), other.result(90)]
    assert [one.fired for one in made] == [90, 10]
    assert rows.count("SELECT count(DISTINCT schedule_id) FROM scheduler_schedulerun WHERE state = 'fired'") == 100
    assert len(rows.messages()) == 100


def test_a_tick_that_replays_committed_work_from_a_stale_view_fires_nothing_twice(
    process_database: ProcessDatabase, rows: Rows, leadership: Leadership
) -> None:
    """The rows say due, the ledger says fired: as after a restore of the schedules alone."""
    rows.add_many(50, NOON)
    make_tick(leadership).run(at=NOON)
    rows.change_all("scheduler_pgperiodicschedule", next_run_at=NOON)
    assert make_tick(leadership).run(at=NOON).taken == 50
    assert len(rows.messages()) == 50


class _Unstamped(PostgresLeadership):
    """A leadership that nobody checks, on any session."""

    def __init__(self, leadership: PostgresLeadership, session: psycopg.Connection[Any]) -> None:
        values = {field.name: getattr(leadership, field.name) for field in fields(leadership)}
        super().__init__(**{**values, "session": session})

    @contextmanager
    def transaction(self) -> Iterator[datetime]:
        with self.session.transaction():
            yield NOON


@pytest.mark.postgresql("PL/pgSQL raises; a full disk of SQLite is in test_sqlite.py")
@pytest.mark.parametrize("sqlstate", ["53100", "53200", "40001", "XX000"], ids=["disk full", "memory", "retry", "bug"])
def test_a_server_in_trouble_loses_the_batch_as_a_whole_and_blames_no_row(
    tick: Tick, rows: Rows, sqlstate: str
) -> None:
    rows.add_many(20, NOON)
    rows.session.execute(
        f"""
        CREATE SEQUENCE rows_before_failure;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('rows_before_failure') > 5 THEN
                RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{sqlstate}';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT ON pg_queue_message FOR EACH ROW EXECUTE FUNCTION fail();
        """
    )
    with pytest.raises(psycopg.Error) as raised:
        tick.run(at=NOON)
    assert raised.value.sqlstate == sqlstate
    assert rows.runs() == rows.messages() == []
    assert rows.count("SELECT count(*) FROM scheduler_pgperiodicschedule WHERE quarantined_at IS NOT NULL") == 0

    rows.session.execute("DROP TRIGGER fail ON pg_queue_message")
    assert tick.run(at=NOON).fired == 20
    assert len(rows.messages()) == 20


@pytest.mark.postgresql("the ledger has no partitions on SQLite")
def test_a_ledger_without_room_for_the_month_is_no_rows_fault(tick: Tick, rows: Rows) -> None:
    rows.add_many(3, NOON)
    rows.session.execute("DROP TABLE scheduler_schedulerun_default")
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
        tick.run(at=NOON)
    assert rows.count("SELECT count(*) FROM scheduler_pgperiodicschedule WHERE quarantined_at IS NOT NULL") == 0


@pytest.mark.postgresql("there is no connection to a server that could drop")
def test_a_connection_dropped_between_two_statements_of_a_batch_leaves_nothing_behind(
    leadership: PostgresLeadership, rows: Rows
) -> None:
    rows.add_many(20, NOON)
    pid = leadership.session.info.backend_pid
    tick = InterruptedTick(leadership, lambda: rows.session.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]))
    with pytest.raises(psycopg.OperationalError):
        tick.run(at=NOON)
    assert rows.runs() == rows.messages() == []
    assert rows.count("SELECT count(*) FROM scheduler_pgperiodicschedule WHERE next_run_at <> '2026-03-10 12:00Z'") == 0
