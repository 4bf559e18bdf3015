"""The listener on SQLite: hears of other processes' commits, and of the passing of time."""

from __future__ import annotations

import select
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pg_queue.domain import NewMessage
from pg_queue.storage import store
from pg_queue.storage.sqlite.listener import SqliteListener
from tests.contract.harness import SqliteHarness

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


@pytest.fixture
def listener(transactional_db: None) -> Iterator[SqliteListener]:
    harness = SqliteHarness()
    with harness.installed():
        harness.clear()
        made = SqliteListener("default", "", ["default"])
        assert made.connect()
        yield made
        made.close()


def is_heard(listener: SqliteListener, seconds: float = 5) -> bool:
    return bool(select.select([listener], [], [], seconds)[0]) and listener.hear()


def test_what_is_enqueued_is_heard_and_heard_once(listener: SqliteListener) -> None:
    store().enqueue([NewMessage(task="noop")])
    assert is_heard(listener)
    assert not is_heard(listener, 0.2)


def test_a_delayed_message_is_heard_when_it_is_due(listener: SqliteListener) -> None:
    due = datetime.now(UTC) + timedelta(seconds=0.5)
    store().enqueue([NewMessage(task="noop", run_after=due)])
    assert is_heard(listener)
    assert datetime.now(UTC) >= due


@pytest.mark.parametrize("write", ["other_queue", "other_namespace", "nothing_due"])
def test_what_is_not_for_it_wakes_nobody(listener: SqliteListener, write: str) -> None:
    {
        "other_queue": lambda: store().enqueue([NewMessage(task="noop", queue="other")]),
        "other_namespace": lambda: store().within("tenant").enqueue([NewMessage(task="noop")]),
        "nothing_due": lambda: store().locks.acquire("lock", ttl=timedelta(seconds=9)),
    }[write]()
    assert not is_heard(listener, 0.3)


def test_a_watcher_that_fails_is_replaced(listener: SqliteListener, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self.close = connection.close

        def execute(self, *_: Any) -> Any:
            raise sqlite3.OperationalError("disk I/O error")

    watcher = listener._watcher
    assert watcher is not None
    monkeypatch.setattr(watcher, "_connection", Broken(watcher._connection))
    assert is_heard(listener), "its end is heard"
    assert listener.fileno() is None
    assert not listener.connect(), "not at once"
    monkeypatch.setattr(listener, "_retry_at", 0.0)
    assert listener.connect()
    store().enqueue([NewMessage(task="noop")])
    assert is_heard(listener)
