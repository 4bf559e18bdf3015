"""Real workers on a file of SQLite: they run tasks, are killed and started again, and are woken."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connections

from backend.database_url import parse_database_url
from pg_queue.domain import MessageState, NewMessage
from pg_queue.settings import StoreSettings, queue_settings
from pg_queue.storage.sqlite import SqliteStore
from tests.pg_queue.worker.conftest import ProcessQueue, is_gone, until
from tests.processes import Manage, SqliteFile

pytestmark = pytest.mark.processes
ALIAS = "process_queue_sqlite"


@pytest.fixture
def queue(sqlite_file: SqliteFile, django_db_blocker: Any) -> Iterator[ProcessQueue]:
    """A queue for one test and its processes."""
    manage = Manage(sqlite_file.url)
    described = {ALIAS: parse_database_url(sqlite_file.url)}
    connections.settings[ALIAS] = connections.configure_settings({"default": {}, **described})[ALIAS]
    store = SqliteStore(queue_settings(), StoreSettings(alias="default", database=ALIAS))
    with django_db_blocker.unblock():
        try:
            yield ProcessQueue(sqlite_file, store, manage)
        finally:
            manage.clean_up()
            connections[ALIAS].close()
            del connections[ALIAS]
            del connections.settings[ALIAS]


def begun(folder: Path, attempt: int) -> int:
    """Wait for an attempt of `test.hold` to have begun; the process id that runs it."""
    file = folder / f"begun-{attempt}"
    until(lambda: file.exists() and file.read_text(), 60, f"attempt {attempt}")
    return int(file.read_text())


def test_a_worker_killed_in_a_task_loses_nothing(queue: ProcessQueue, tmp_path: Path) -> None:
    message_id = queue.add("test.hold", str(tmp_path))
    first = queue.worker("--concurrency", "1")
    child = begun(tmp_path, 1)
    assert isinstance(queue.database, SqliteFile)
    path = str(queue.database.path)
    assert any(file.path.startswith(path) for file in psutil.Process(first.pid).open_files())
    assert not any(file.path.startswith(path) for file in psutil.Process(child).open_files()), "it crossed a fork"
    first.kill()
    until(lambda: is_gone(child), what="the orphaned child to end")
    queue.reaper()
    queue.worker("--concurrency", "1", LEASE_SECONDS=60, RENEW_SECONDS=10)
    begun(tmp_path, 2)
    (tmp_path / "go").touch()
    message = queue.outcome(message_id)
    assert (message.state, message.attempts, message.result) == (MessageState.SUCCEEDED, 2, "attempt 2")
    assert queue.sql("SELECT count(*) FROM pg_queue_result") == [(1,)]
    assert queue.store.depths() == []


def test_two_workers_go_on_while_one_after_the_other_is_killed(queue: ProcessQueue) -> None:
    def ended() -> int:
        return int(queue.sql("SELECT count(*) FROM pg_queue_result")[0][0])

    queue.reaper()
    workers = [queue.worker("--concurrency", "2") for _ in range(2)]
    ids: list[uuid.UUID] = []
    for _ in range(3):
        before = len(ids)
        ids += queue.store.enqueue([NewMessage(task="test.add", args=[n, 1], max_attempts=9) for n in range(1000)])
        until(lambda least=before: ended() > least, what="progress")
        workers.pop(0).kill(group=True)
        workers.append(queue.worker("--concurrency", "2"))
    until(lambda: not queue.store.depths(), 120, "the end of all messages")
    messages = queue.store.get(ids)
    assert {message.state for message in messages.values()} == {MessageState.SUCCEEDED}
    assert [messages[message_id].result for message_id in ids] == [*range(1, 1001)] * 3
    assert [worker.stop() for worker in workers] == [0, 0]
    assert queue.sql("PRAGMA integrity_check") == [("ok",)]


def test_an_idle_worker_is_woken_long_before_it_would_poll(queue: ProcessQueue) -> None:
    worker = queue.worker("--concurrency", "1", POLL_SECONDS=600)
    for number in range(5):
        assert queue.outcome(queue.add("test.add", number, 1)).result == number + 1
    assert worker.stop() == 0, worker.output
