"""A queue in a database of its own, worked on by real processes."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from django.db import connections

from pg_queue.domain import TERMINAL_STATES, Message, NewMessage
from pg_queue.ports import QueueStore
from pg_queue.settings import StoreSettings, queue_settings
from pg_queue.storage import store
from pg_queue.storage.postgres import PostgresStore
from pg_queue.tasks import registry
from pg_queue.worker.embedded import EmbeddedWorker
from pg_queue.worker.options import WorkerOptions
from tests.processes import Manage, ProcessDatabase, RunningProcess, SqliteFile

FAST = {"LEASE_SECONDS": 1.5, "RENEW_SECONDS": 0.3, "REAP_SECONDS": 0.2, "HEARTBEAT_SECONDS": 0.3}


def worker_environment(**settings: Any) -> dict[str, str]:
    """The environment of a worker with the misbehaving tasks and these keys of `PG_QUEUE`."""
    return {"DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_PG_QUEUE": json.dumps({**FAST, **settings})}


def until(condition: Callable[[], Any], timeout: float = 60, what: str = "") -> Any:
    """Ask again and again; the first true answer. Raises: AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what or condition}"
        time.sleep(0.02)
    return answer


def is_gone(pid: int) -> bool:
    """True when the process does not exist, or has ended and waits to be collected."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class ProcessQueue:
    """The queue of one throwaway database, seen from the test."""

    def __init__(self, database: ProcessDatabase | SqliteFile, store: QueueStore, manage: Manage) -> None:
        self.database, self.store, self._manage = database, store, manage

    def add(self, task: str, *args: Any, **fields: Any) -> uuid.UUID:
        """Enqueue one message, past the registry."""
        return self.store.enqueue([NewMessage(task=task, args=args, **fields)])[0]

    def get(self, message_id: uuid.UUID) -> Message:
        """The message as it is now."""
        return self.store.get([message_id])[message_id]

    def outcome(self, message_id: uuid.UUID, timeout: float = 60) -> Message:
        """Wait for the message's terminal state."""

        def ended() -> Message | None:
            message = self.get(message_id)
            return message if message.state in TERMINAL_STATES else None

        found: Message = until(ended, timeout, f"end of {message_id}")
        return found

    def worker(self, *arguments: str, **settings: Any) -> RunningProcess:
        """Start a worker, and wait until it is there."""
        process = self._manage("run_worker", *arguments, env=worker_environment(**settings))
        process.wait_for_line("started command=run_worker")
        return process

    def reaper(self, **settings: Any) -> RunningProcess:
        """Start a reaper."""
        return self._manage("run_reaper", env=worker_environment(**settings))

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement in a session of its own."""
        with closing(self.database.connect()) as session:
            cursor = session.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def process_queue(database: ProcessDatabase, manage: Manage, blocker: Any) -> Iterator[ProcessQueue]:
    """A `ProcessQueue` on this database, by a Django alias that lives as long as the block."""
    alias = f"process_queue_{database.name}"  # of its own: two may live at once
    connections.settings[alias] = {**connections["default"].settings_dict, "NAME": urlsplit(database.url).path[1:]}
    with blocker.unblock():
        try:
            yield ProcessQueue(
                database, PostgresStore(queue_settings(), StoreSettings(alias="default", database=alias)), manage
            )
        finally:
            connections[alias].close()
            del connections[alias]
            del connections.settings[alias]


@pytest.fixture
def queue(process_database: ProcessDatabase, manage: Manage, django_db_blocker: Any) -> Iterator[ProcessQueue]:
    """A queue for one test and its processes."""
    with process_queue(process_database, manage, django_db_blocker) as found:
        yield found


@pytest.fixture
def begun(tmp_path: Path) -> Callable[[int], int]:
    """Waits for an attempt of `test.hold` to have begun; the process id that runs it."""

    def wait(attempt: int = 1) -> int:
        file = tmp_path / f"begun-{attempt}"
        until(lambda: file.exists() and file.read_text(), 60, f"attempt {attempt}")
        return int(file.read_text())

    return wait


Start = Callable[..., EmbeddedWorker]


@pytest.fixture
def own_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers goes with it."""
    registry.tasks()  # discovered before, not into the copies
    for name in ("_registered", "_origins"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts workers inside this process; they stop with the test."""
    started: list[EmbeddedWorker] = []

    def begin(**options: Any) -> EmbeddedWorker:
        chosen = {"queues": ("default",), "concurrency": 2, "drain_seconds": 10.0, **options}
        started.append(EmbeddedWorker(WorkerOptions(**chosen)))
        started[-1].start()
        return started[-1]

    yield begin
    for worker in started:
        worker.stop()


def add(name: str, *args: Any, **fields: Any) -> uuid.UUID:
    """Enqueue one message in this process's own store."""
    return store().enqueue([NewMessage(task=name, args=args, **fields)])[0]


def outcome(message_id: uuid.UUID) -> Message:
    """Wait for the terminal state of a message there."""

    def ended() -> Message | None:
        found = store().get([message_id])[message_id]
        return found if found.state in TERMINAL_STATES else None

    message: Message = until(ended, what=f"end of {message_id}")
    return message
