"""The tables on SQLite: made by the same migrations, with the same constraints, in a file that survives a kill."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from typing import Any

import pytest

from backend.database_url import parse_database_url
from tests.processes import ROOT, Manage, SqliteFile, child_environment

SCHEDULE = {
    "pipeline_id": "0" * 32,
    "beat_name": "nightly",
    "pipeline_name": "Nightly",
    "kind": "crontab",
    "cron_string": "30 2 * * *",
    "task": "echo",
    "args": "[]",
    "kwargs": "{}",
}
MESSAGE = {"task": "echo", "args": "[]", "kwargs": "{}", "headers": "{}", "max_attempts": 3}
RUN = {
    "id": "1" * 32,
    "organization_id": "default",
    "scheduled_for": "2026-03-01 02:30:00",
    "firer": "pg",
    "state": "expired",
    "schedule_id": "0" * 32,
}
RESULT = {
    "message_id": "2" * 32,
    "state": "succeeded",
    "task": "echo",
    "queue": "default",
    "priority": 5,
    "organization_id": "",
    "headers": "{}",
    "attempts": 1,
    "max_attempts": 1,
    "run_after": "2026-03-01 00:00:00",
    "enqueued_at": "2026-03-01 00:00:00",
}
ROWS = {
    "scheduler_pgperiodicschedule": SCHEDULE,
    "pg_queue_message": MESSAGE,
    "pg_queue_result": RESULT,
    "scheduler_schedulerun": RUN,
}


def insert(connection: sqlite3.Connection, table: str, values: dict[str, Any]) -> None:
    columns, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)


@pytest.mark.parametrize("table", ROWS)
def test_a_good_row_is_stored(sqlite_file: SqliteFile, table: str) -> None:
    with closing(sqlite_file.connect()) as connection:
        insert(connection, table, ROWS[table])
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)


@pytest.mark.parametrize(
    ("table", "change", "constraint"),
    [
        ("pg_queue_message", {"priority": 11}, "pg_queue_message_priority_range"),
        ("pg_queue_message", {"attempts": 3}, "pg_queue_message_attempts_range"),
        ("pg_queue_message", {"claim_token": "3" * 32}, "pg_queue_message_claim_whole"),
        ("pg_queue_message", {"run_after": "infinity"}, "pg_queue_message_instants_readable"),
        ("pg_queue_message", {"args": "[1"}, "JSON_VALID"),
        ("pg_queue_result", {"state": "running"}, "pg_queue_result_state_terminal"),
        ("scheduler_pgperiodicschedule", {"kind": "hourly"}, "scheduler_schedule_kind_known"),
        ("scheduler_pgperiodicschedule", {"interval_seconds": 60.0}, "scheduler_schedule_interval_whole"),
        ("scheduler_pgperiodicschedule", {"firer": "cron"}, "scheduler_schedule_firer_known"),
        ("scheduler_pgperiodicschedule", {"dialect": "quartz"}, "scheduler_schedule_dialect_known"),
        ("scheduler_pgperiodicschedule", {"priority": 0}, "scheduler_schedule_priority_range"),
        ("scheduler_pgperiodicschedule", {"overlap": "kill"}, "scheduler_schedule_policies_known"),
        ("scheduler_pgperiodicschedule", {"run_limit": 0}, "scheduler_schedule_limits_positive"),
        ("scheduler_pgperiodicschedule", {"next_run_at": "0001-05-01"}, "scheduler_schedule_instants_readable"),
        (
            "scheduler_pgperiodicschedule",
            {"firer": "beat", "beat_from": "2026-03-01 00:00:00"},
            "scheduler_schedule_beat_from_of_pg",
        ),
        ("scheduler_schedulerun", {"state": "fired"}, "scheduler_run_fired_has_instant"),
        ("scheduler_schedulerun", {"span_end": "2026-02-01 00:00:00"}, "scheduler_run_span_ordered"),
    ],
)
def test_a_row_that_breaks_an_invariant_is_refused_by_the_constraint_of_the_same_name(
    sqlite_file: SqliteFile, table: str, change: dict[str, Any], constraint: str
) -> None:
    with closing(sqlite_file.connect()) as connection:
        with pytest.raises(sqlite3.IntegrityError) as refused:
            insert(connection, table, ROWS[table] | change)
        assert constraint in str(refused.value)


@pytest.mark.parametrize(
    ("table", "change", "columns"),
    [
        (
            "scheduler_schedulerun",
            {"id": "4" * 32},
            "scheduler_schedulerun.schedule_id, scheduler_schedulerun.scheduled_for, scheduler_schedulerun.origin",
        ),
        ("scheduler_pgperiodicschedule", {"pipeline_id": "4" * 32}, "scheduler_pgperiodicschedule.beat_name"),
    ],
)
def test_there_is_one_row_of_a_kind(sqlite_file: SqliteFile, table: str, change: dict[str, str], columns: str) -> None:
    with closing(sqlite_file.connect()) as connection:
        insert(connection, table, ROWS[table])
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE constraint failed") as refused:
            insert(connection, table, ROWS[table] | change)
        assert str(refused.value).endswith(columns)


def test_messages_get_ids_in_order_of_time_and_numbers_in_order_of_insertion(sqlite_file: SqliteFile) -> None:
    with closing(sqlite_file.connect()) as connection:
        for number in range(200):
            insert(connection, "pg_queue_message", MESSAGE | {"queue": str(number)})
        rows = connection.execute("SELECT id, queue FROM pg_queue_message ORDER BY sequence").fetchall()
        distinct = connection.execute("SELECT count(DISTINCT sequence) FROM pg_queue_message").fetchone()
    assert [queue for _, queue in rows] == [str(number) for number in range(200)]
    assert distinct == (200,)
    assert {uuid.UUID(text).version for text, _ in rows} == {7}


def test_the_file_is_opened_durably_and_its_writers_take_the_lock_at_once(sqlite_file: SqliteFile) -> None:
    said = """
from django.db import connection, transaction
with connection.cursor() as cursor:
    for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout"):
        print(pragma, cursor.execute(f"PRAGMA {pragma}").fetchone()[0])
with transaction.atomic():
    import sqlite3
    other = sqlite3.connect(connection.settings_dict["NAME"], timeout=0)
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        print(error.sqlite_errorname)
"""
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "-c", said],
        cwd=ROOT,
        env=child_environment(sqlite_file.url),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    expected = ["journal_mode wal", "synchronous 2", "foreign_keys 1", "busy_timeout 20000", "SQLITE_BUSY"]
    assert done.stdout.splitlines()[-5:] == expected


@pytest.mark.parametrize("arguments", [["makemigrations", "--check", "--dry-run"], ["check", "--database", "default"]])
def test_models_and_migrations_agree_and_nothing_is_complained_of(
    sqlite_file: SqliteFile, manage: Manage, arguments: list[str]
) -> None:
    done = manage.run(*arguments, url=sqlite_file.url)
    assert done.returncode == 0, done.output
    assert "WARNING" not in done.output


def test_a_pipeline_agrees_with_its_schedule(sqlite_file: SqliteFile) -> None:
    with closing(sqlite_file.connect()) as connection:
        insert(connection, "scheduler_pgperiodicschedule", SCHEDULE)
        instants = dict.fromkeys(("created_at", "updated_at"), "2026-03-01 00:00:00")
        pipeline = {"id": "0" * 32, "name": "Nightly", "organization_id": "default", "timezone": "UTC"}
        cadence = {"expression": "30 2 * * *", "dialect": "unix", "active": True}
        insert(connection, "pipelines_pipeline", pipeline | cadence | instants)

        def shown() -> tuple[Any, ...]:
            return connection.execute("SELECT name, expression, active FROM pipelines_pipeline").fetchone()

        change = (
            "UPDATE scheduler_pgperiodicschedule SET pipeline_name = 'Late', cron_string = '0 4 * * *', enabled = 1"
        )
        connection.execute(change)
        assert shown() == ("Late", "0 4 * * *", 1)
        connection.execute("UPDATE scheduler_pgperiodicschedule SET next_run_at = '2026-03-01', last_run_at = NULL")
        assert shown() == ("Late", "0 4 * * *", 1)
        connection.execute("DELETE FROM scheduler_pgperiodicschedule")
        assert shown() == ("Late", "0 4 * * *", 0)


def test_the_agreement_outlasts_a_migration_that_makes_its_tables_anew(sqlite_file: SqliteFile, manage: Manage) -> None:
    for target in (["scheduler", "0010"], ["pipelines", "0004"], []):
        done = manage.run("migrate", *target, url=sqlite_file.url)
        assert done.returncode == 0, done.output
    with closing(sqlite_file.connect()) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name").fetchall()
    assert triggers == [("pipelines_follow_schedule",), ("pipelines_outlive_schedule",)]


@pytest.mark.parametrize("url", ["sqlite://:memory:", "sqlite:///relative.sqlite3", "sqlite:////a.sqlite3?mode=ro"])
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected sqlite:////absolute/path/of/the/file\.sqlite3 and nothing after"):
        parse_database_url(url)


def test_a_path_may_hold_what_a_url_may_not() -> None:
    assert parse_database_url("sqlite:////srv/my%20files/a%23b.sqlite3")["NAME"] == "/srv/my files/a#b.sqlite3"
