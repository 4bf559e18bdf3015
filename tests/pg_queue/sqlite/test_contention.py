"""One writer at a time: the others wait, for a time that has an end."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

import pytest
from django.db import OperationalError, connection, transaction

from pg_queue.domain import NewMessage
from pg_queue.sqlite import raw_connection
from pg_queue.storage import store
from pg_queue.storage.sqlite.session import Session
from tests.contract.harness import SqliteHarness

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


@pytest.fixture(autouse=True)
def file(transactional_db: None) -> Iterator[None]:
    harness = SqliteHarness()
    with harness.installed():
        harness.clear()
        yield


@pytest.fixture
def other(file: None) -> Iterator[sqlite3.Connection]:
    """A connection that holds the write lock until it is told to let go."""
    with closing(raw_connection("default")) as found:
        found.execute("BEGIN IMMEDIATE")
        yield found


def wait_at_most(milliseconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {milliseconds}")
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", milliseconds / 1000)


def busy() -> OperationalError:
    cause = sqlite3.OperationalError("database is locked")
    cause.sqlite_errorcode = sqlite3.SQLITE_BUSY_SNAPSHOT
    error = OperationalError(str(cause))
    error.__cause__ = cause
    return error


def test_who_waits_too_long_is_told_so_and_nothing_was_done(
    other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_at_most(200, monkeypatch)
    before = time.monotonic()
    with pytest.raises(OperationalError, match="locked"):
        store().enqueue([NewMessage(task="noop")])
    assert time.monotonic() - before >= 0.2
    assert store().depths() == [], "who reads does not wait"
    other.execute("COMMIT")
    store().enqueue([NewMessage(task="noop")])
    assert [depth.waiting for depth in store().depths()] == [1]


def test_who_waits_goes_on_when_the_other_has_ended(other: sqlite3.Connection) -> None:
    release = threading.Timer(0.3, other.execute, ["COMMIT"])
    release.start()
    store().enqueue([NewMessage(task="noop")])
    release.join()
    assert [depth.waiting for depth in store().depths()] == [1]


def test_a_transaction_of_the_stores_own_is_done_again_from_its_beginning() -> None:
    seen: list[datetime] = []

    def act(now: datetime) -> str:
        seen.append(now)
        store().enqueue([NewMessage(task="noop")])
        if len(seen) < 3:
            raise busy()
        return "done"

    assert Session("default").write(act) == "done"
    assert len(seen) == 3
    assert [depth.waiting for depth in store().depths()] == [1], "what was given up was rolled back"


def test_the_callers_transaction_is_for_the_caller_to_do_again() -> None:
    seen: list[datetime] = []

    def act(now: datetime) -> None:
        seen.append(now)
        raise busy()

    with pytest.raises(OperationalError), transaction.atomic():
        Session("default").write(act)
    assert len(seen) == 1


def test_other_errors_are_not_tried_again() -> None:
    seen: list[datetime] = []

    def act(now: datetime) -> None:
        seen.append(now)
        raise OperationalError("no such table")

    with pytest.raises(OperationalError):
        Session("default").write(act)
    assert len(seen) == 1
