"""Leaders of one file of SQLite that are frozen and killed."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.processes import Manage, RunningProcess, SqliteFile

pytestmark = pytest.mark.processes


@pytest.fixture
def watcher(sqlite_file: SqliteFile) -> Iterator[sqlite3.Connection]:
    """A connection that looks on, and never waits for a lock."""
    with closing(sqlite_file.connect()) as connection:
        connection.execute("CREATE TABLE done (number integer PRIMARY KEY AUTOINCREMENT, term integer)")
        connection.execute("PRAGMA busy_timeout = 0")
        yield connection


def start(manage: Manage, file: SqliteFile) -> RunningProcess:
    return manage.launch([sys.executable, "-m", "tests.pg_queue.leader.reigning"], url=file.url)


def freeze_between_transactions(process: RunningProcess, watcher: sqlite3.Connection) -> None:
    """Within one it would hold the write lock, and the file with it."""
    while True:
        process.freeze()
        try:
            watcher.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            assert error.sqlite_errorname == "SQLITE_BUSY"  # noqa: PT017
            process.thaw()
        else:
            watcher.execute("ROLLBACK")
            return


def terms(watcher: sqlite3.Connection) -> list[int]:
    return [term for (term,) in watcher.execute("SELECT term FROM done ORDER BY number")]


def test_a_frozen_leader_is_replaced_and_commits_nothing_when_it_thaws(
    manage: Manage, sqlite_file: SqliteFile, watcher: sqlite3.Connection
) -> None:
    first = start(manage, sqlite_file)
    first.wait_for_line("leads 1")
    second = start(manage, sqlite_file)
    for term, (leader, standby) in enumerate([(first, second), (second, first)], start=1):
        while term not in terms(watcher):
            assert leader.returncode is None
        freeze_between_transactions(leader, watcher)
        standby.wait_for_line(f"leads {term + 1}")
        leader.thaw()
        leader.wait_for_line(f"lost {term}", 30)
    while 3 not in (stored_terms := terms(watcher)):
        assert first.returncode is second.returncode is None
    assert stored_terms == sorted(stored_terms)


def test_a_killed_leader_is_replaced_when_its_lease_is_over(
    manage: Manage, sqlite_file: SqliteFile, watcher: sqlite3.Connection
) -> None:
    first = start(manage, sqlite_file)
    first.wait_for_line("leads 1")
    second = start(manage, sqlite_file)
    while not terms(watcher):  # a term that did nothing is no sign of a leader
        assert first.returncode is None
    first.kill()
    second.wait_for_line("leads 2")
    [(previous, since)] = watcher.execute("SELECT previous_heartbeat_at, since FROM pg_queue_leader").fetchall()
    assert previous < since
    assert terms(watcher) == sorted(terms(watcher))
