"""The command as a process that is killed, and one that goes on until it is told to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.pg_queue.celery.draining.conftest import OldBroker, at_redis
from tests.processes import Manage, ProcessDatabase

pytestmark = [pytest.mark.processes, pytest.mark.postgresql("the transport is on PostgreSQL alone")]
COUNT = 300
SLOW = """
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN NULL; END $$;
CREATE TRIGGER be_slow AFTER INSERT ON pg_queue_message FOR EACH STATEMENT EXECUTE FUNCTION be_slow()
"""


class Rows:
    """What has arrived."""

    def __init__(self, database: ProcessDatabase) -> None:
        self._session = database.connect()
        self.execute = self._session.execute

    def ids(self) -> list[str]:
        """Of the messages."""
        return [str(row[0]) for row in self._session.execute("SELECT id FROM pg_queue_message")]

    def wait_for(self, count: int, seconds: float = 60) -> None:
        """Until there are at least so many."""
        deadline = time.monotonic() + seconds
        while len(self.ids()) < count:
            assert time.monotonic() < deadline, len(self.ids())
            time.sleep(0.005)

    @contextmanager
    def nobody_commits(self) -> Iterator[None]:
        """Whoever stores a message waits while the block lasts."""
        with self._session.transaction():
            self._session.execute("LOCK TABLE pg_queue_message IN SHARE MODE")
            yield

    def wait_until_somebody_waits(self) -> None:
        """For that lock."""
        deadline = time.monotonic() + 60
        held_up = "SELECT FROM pg_locks WHERE relation = 'pg_queue_message'::regclass AND NOT granted"
        while not self._session.execute(held_up).fetchall():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def close(self) -> None:
        """Give the session up."""
        self._session.close()


@pytest.fixture
def rows(process_database: ProcessDatabase) -> Iterator[Rows]:
    """Of the processes' database."""
    opened = Rows(process_database)
    yield opened
    opened.close()


def test_killed_in_the_middle_each_message_arrives_once(old: OldBroker, manage: Manage, rows: Rows) -> None:
    ids = old.send_many(COUNT)
    rows.execute(SLOW)
    arguments = [*old.arguments(**({"visibility_timeout": 1} if old.is_redis else {})), "--batch=7"]

    with rows.nobody_commits():
        first = manage(*arguments)
        rows.wait_until_somebody_waits()
        first.kill()
    if old.is_redis:
        second = manage(*arguments)
        rows.wait_for(COUNT // 3)
        second.kill()
        assert len(rows.ids()) < COUNT

    last = manage(*arguments)
    other = None if old.is_redis else manage(*arguments)  # any number may run at once
    rows.wait_for(COUNT)
    last.wait_for_line(rf"^drained .*waiting=0{' held=0' if old.is_redis else ''}$")
    assert last.stop() == 0, last.output
    if other is not None:
        other.wait_for_line("^drained .*waiting=0$")
        assert other.stop() == 0, other.output
    assert sorted(rows.ids()) == sorted(ids)
    assert (old.depth(), old.held()) == (0, 0)
    assert last.lines[-1].text.startswith("stopped moved=")


@at_redis
def test_it_goes_on_when_the_database_was_away(old: OldBroker, manage: Manage, rows: Rows) -> None:
    drain = manage(*old.arguments())
    drain.wait_for_line("^drained moved=0 ")
    ids = old.send_many(3)
    rows.wait_for(3)
    rows.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )
    ids |= old.send_many(3)
    drain.wait_for_line("^interrupted error=")
    rows.wait_for(6)
    drain.wait_for_line("^drained moved=6 .*waiting=0 held=0$")
    assert drain.stop() == 0, drain.output
    assert sorted(rows.ids()) == sorted(ids)
