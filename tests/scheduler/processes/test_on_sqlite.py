"""Scheduler processes on one file of SQLite: killed, frozen and woken, nothing is missed and nothing fired twice."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from scheduler.lookout import make_lookout
from tests.pg_queue.leader.test_sqlite_processes import freeze_between_transactions
from tests.processes import Manage, RunningProcess, SqliteFile
from tests.scheduler.rows import SqliteRows, lead

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

SECOND = timedelta(seconds=1)


@pytest.fixture
def rows(sqlite_file: SqliteFile) -> Iterator[SqliteRows]:
    """The file's tables."""
    found = SqliteRows(sqlite_file)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def watcher(sqlite_file: SqliteFile) -> Iterator[sqlite3.Connection]:
    """A connection that never waits for a lock."""
    with closing(sqlite_file.connect()) as connection:
        connection.execute("PRAGMA busy_timeout = 0")
        yield connection


def start(manage: Manage, file: SqliteFile) -> RunningProcess:
    process = manage("run_scheduler", "--no-reaper", url=file.url)
    process.wait_for_line("^started ")
    return process


def leader_of(rows: SqliteRows, processes: list[RunningProcess]) -> RunningProcess:
    pid = rows.count("SELECT process_id FROM pg_queue_leader")
    return next(process for process in processes if process.pid == pid)


def assert_each_second_is_accounted_for_once(rows: SqliteRows) -> None:
    """The rows of a schedule's ledger follow each other without a gap and without an overlap, and each run that was
    fired has its message."""
    by_schedule: dict[Any, list[dict[str, Any]]] = {}
    for run in rows.runs():
        by_schedule.setdefault(run["schedule_id"], []).append(run)
    assert by_schedule
    for runs in by_schedule.values():
        for run in runs:
            assert ((run["span_end"] or run["scheduled_for"]) - run["scheduled_for"]) // SECOND + 1 == run[
                "occurrences"
            ]
        for before, after in pairwise(runs):
            assert after["scheduled_for"] - (before["span_end"] or before["scheduled_for"]) == SECOND
    fired = [run["id"] for run in rows.runs() if run["state"] == "fired"]
    assert sorted(fired) == sorted(message["id"] for message in rows.messages())


@pytest.mark.long
def test_each_occurrence_is_accounted_for_once_under_kills_and_freezes(
    manage: Manage, sqlite_file: SqliteFile, rows: SqliteRows, watcher: sqlite3.Connection
) -> None:
    processes = [start(manage, sqlite_file) for _ in range(2)]
    begin = datetime.now(UTC).replace(microsecond=0)
    for _ in range(20):
        rows.add_interval(1, next_run_at=begin)
    for term, fault in enumerate(("kill", "freeze", "kill", "freeze"), start=1):
        wait_for(processes, rows, lambda: rows.count(FIRED_SO_FAR.format(term)) > 0)  # noqa: B023
        leader = leader_of(rows, processes)
        if fault == "kill":
            leader.kill()
            processes.remove(leader)
            processes.append(start(manage, sqlite_file))
        else:
            freeze_between_transactions(leader, watcher)
        wait_for(processes, rows, lambda: rows.count(FIRED_SO_FAR.format(term + 1)) > 0)  # noqa: B023
        if fault == "freeze":
            leader.thaw()
            leader.wait_for_line("leader.session_lost error=LeadershipLost")
    for process in processes:
        assert process.stop() == 0, process.output
    assert_each_second_is_accounted_for_once(rows)
    in_order = [run["term"] for run in sorted(rows.runs(), key=lambda run: run["recorded_at"])]
    assert in_order == sorted(in_order)


FIRED_SO_FAR = "SELECT count(*) FROM scheduler_schedulerun WHERE state = 'fired' AND term >= {}"


def wait_for(processes: list[RunningProcess], rows: SqliteRows, is_there: Any, within_seconds: float = 90) -> None:
    pause = threading.Event()
    for _ in range(int(within_seconds / 0.05)):
        if is_there():
            return
        pause.wait(0.05)
    pytest.fail("\n".join(process.output for process in processes))


def test_a_leader_sees_what_another_connection_commits_and_not_its_own(
    sqlite_file: SqliteFile, rows: SqliteRows
) -> None:
    class Stop:
        count = 0

        def fileno(self) -> int:
            raise NotImplementedError

        def wait(self, seconds: float) -> bool:
            return threading.Event().wait(seconds)

    with lead(sqlite_file) as leadership:
        lookout, stop = make_lookout(leadership, Stop()), Stop()
        assert lookout.outlook() == (None, False)
        leadership.stamp()
        assert not lookout.wait(0.3)
        rows.add(next_run_at=datetime.now(UTC) + timedelta(hours=1))
        assert lookout.wait(60)
        seconds, has_held = lookout.outlook()
        assert 3500 < (seconds or 0) <= 3600
        assert not has_held
        lookout = make_lookout(leadership, stop)
        lookout.outlook()
        stop.count = 1
        assert lookout.wait(60)


WORK = """
from datetime import timedelta
from pg_queue.api import store
from pg_queue.domain import Settlement, Success
[claim] = store().claim(queues=["default"], limit=10, lease=timedelta(seconds=60), worker="test")
store().settle([Settlement(message_id=claim.message.id, token=claim.token, outcome=Success(value=None))])
"""


def test_one_pass_fires_reaps_and_forgets_and_leaves_the_lead(
    manage: Manage, sqlite_file: SqliteFile, rows: SqliteRows
) -> None:
    old = datetime.now(UTC) - timedelta(days=91)
    for change in ({}, {"span_end": old + timedelta(days=2)}):
        run = {"id": f"{len(change):032x}", "schedule_id": f"{len(change):032x}", "scheduled_for": str(old)[:19]}
        fixed = {"organization_id": "default", "firer": "pg", "state": "expired"}
        columns = {**run, **fixed, **{name: str(value)[:19] for name, value in change.items()}}
        names, marks = ", ".join(columns), ", ".join("?" for _ in columns)
        rows.session.execute(f"INSERT INTO scheduler_schedulerun ({names}) VALUES ({marks})", list(columns.values()))
    rows.add(cron_string="0 0 1 1 *", next_run_at=datetime.now(UTC), task="noop", args=[], kwargs={})

    process = manage.run("run_scheduler", "--once", "--json", url=sqlite_file.url)
    assert process.returncode == 0, process.output
    assert sorted(run["state"] for run in rows.runs()) == ["expired", "fired"]  # a stretch is as old as its end
    assert '"duty": "forget_runs", "rows": 1' in process.stdout
    assert rows.count("SELECT count(*) FROM pg_queue_leader WHERE resigned_at IS NOT NULL") == 1

    worker = manage.run("shell", "-c", WORK, url=sqlite_file.url)
    assert worker.returncode == 0, worker.output
    process = manage.run("run_scheduler", "--once", url=sqlite_file.url)
    assert process.returncode == 0, process.output
    assert sorted(run["state"] for run in rows.runs()) == ["expired", "succeeded"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["cutover", "status"],
        ["tripwire", "status"],
        ["import_beat"],
        ["compare_runs"],
        ["reconcile_schedules"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_is_about_celery_beat_is_refused_and_says_what_to_do(
    manage: Manage, sqlite_file: SqliteFile, arguments: list[str]
) -> None:
    process = manage.run(*arguments, url=sqlite_file.url)
    assert process.returncode == 2, process.output
    assert f"manage.py {arguments[0]}: expected DATABASES['default']" in process.stderr
    assert "got: SQLite" in process.stderr
    assert "or keep them in PostgreSQL" in process.stderr


@pytest.mark.parametrize(
    ("settings", "code"), [('{"DEFAULT_FIRER": "beat"}', "scheduler.E006")], ids=["beat by default"]
)
def test_settings_that_cannot_hold_on_sqlite_are_an_error(
    manage: Manage, sqlite_file: SqliteFile, settings: str, code: str
) -> None:
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_SCHEDULER": settings}
    process = manage.run("check", url=sqlite_file.url, env=environment)
    assert process.returncode != 0
    assert code in process.stderr
    assert "expected 'pg', because DATABASES['default'] is SQLite" in process.stderr
