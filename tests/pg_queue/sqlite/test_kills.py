"""A file of SQLite outlives whoever is killed while writing to it."""

from __future__ import annotations

import json
import sys
import uuid
from contextlib import closing

import pytest

from tests.processes import Manage, SqliteFile

KILLS = 50


@pytest.mark.processes
def test_fifty_writers_are_killed_and_the_file_is_whole_and_holds_what_was_committed(
    sqlite_file: SqliteFile, manage: Manage
) -> None:
    victims = manage.launch([sys.executable, "-m", "tests.pg_queue.sqlite.victims", str(KILLS)], url=sqlite_file.url)
    assert victims.wait(240) == 0, victims.output
    told = [json.loads(line) for line in victims.stdout.splitlines()]
    assert len(told) == KILLS
    with closing(sqlite_file.connect()) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        waiting = {uuid.UUID(one) for (one,) in connection.execute("SELECT id FROM pg_queue_message")}
        done = {
            uuid.UUID(one)
            for (one,) in connection.execute("SELECT message_id FROM pg_queue_result WHERE state = 'succeeded'")
        }
    assert not waiting & done, "a message has both ended and not"
    for one in told:
        for ids in one["enqueued"]:
            assert {uuid.UUID(i) for i in ids} <= waiting | done, "what was committed is lost"
        for ids in one["tried"]:
            assert len({uuid.UUID(i) for i in ids} & (waiting | done)) in (0, len(ids)), "half of a batch"
        for ids in one["settled"]:
            assert {uuid.UUID(i) for i in ids} <= done, "a settlement that was committed is lost"
    assert sum(len(one["enqueued"]) for one in told) > KILLS, "they were killed before they did anything"
    assert sum(len(one["tried"]) > len(one["enqueued"]) for one in told) > KILLS / 10, "few were killed in the middle"


def test_every_process_can_go_on_at_once_after_a_kill(sqlite_file: SqliteFile, manage: Manage) -> None:
    """The write lock goes with the process that held it."""
    hold = """
from django.db import transaction
from pg_queue.api import store
from pg_queue.domain import NewMessage
with transaction.atomic():
    store().enqueue([NewMessage(task="noop")])
    print("holds", flush=True)
    import time; time.sleep(600)
"""
    holder = manage("shell", "-c", hold, url=sqlite_file.url)
    holder.wait_for_line("holds")
    holder.kill()
    with closing(sqlite_file.connect()) as connection:
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("BEGIN IMMEDIATE")
        assert connection.execute("SELECT count(*) FROM pg_queue_message").fetchone() == (0,)
