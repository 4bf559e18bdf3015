"""Stock `celery worker` processes of a Django project on `downbeat://`, and a caller who sends to them and asks."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from django.db import connections

from tests.pg_queue.worker.conftest import until
from tests.processes import Manage, ProcessDatabase, RunningProcess

PROJECT = "tests.scheduler.relay.proj"
QUEUE = "stock"
SOON = 120
_names = itertools.count(1)


class Stock:
    """Workers on one database; seen from the test, which is no part of the project."""

    def __init__(self, database: ProcessDatabase, manage: Manage, app: Celery, folder: Path) -> None:
        self.database, self.manage, self.app = database, manage, app
        self._notes = folder / "notes"
        self._notes.touch()
        self.environment = {
            "DJANGO_SETTINGS_MODULE": f"{PROJECT}.settings",
            "PROJ_BROKER_URL": "downbeat://",
            "PROJ_TRANSPORT_OPTIONS": json.dumps({"polling_interval": 1, "visibility_timeout": 1.5}),
            "PROJ_QUEUE": QUEUE,
            "PROJ_NOTES": str(self._notes),
        }

    def celery(self, *arguments: str, **environment: str) -> RunningProcess:
        """Start `celery -A proj <arguments>`."""
        argv = [sys.executable, "-m", "celery", "-A", PROJECT, *arguments]
        return self.manage.launch(argv, env=self.environment | environment)

    def start_worker(self, *options: str, name: str | None = None, **environment: str) -> RunningProcess:
        """A worker, ready. Its node's name is its own where none is given."""
        name = name or f"w{next(_names)}@test"
        worker = self.celery("worker", "-l", "INFO", "-n", name, *options, **environment)
        worker.wait_for_line(r"ready\.$", SOON)
        return worker

    def send(self, task: str, *args: Any, **options: Any) -> str:
        """Send one task; its id."""
        return str(self.app.send_task(f"proj.{task}", args, **options).id)

    def inspect(self, worker: str) -> Any:
        """Asks one worker."""
        return self.app.control.inspect(timeout=20, destination=[worker])

    def notes(self) -> list[dict[str, Any]]:
        """What the tasks have written down; a line that is being written is not there yet."""
        whole, _, _ = self._notes.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def executed(self) -> Counter[str]:
        """Task ids, with how often each was executed."""
        return Counter(note["id"] for note in self.notes())

    def count(self, table: str, where: str = "true") -> int:
        """Rows of one of the queue's tables."""
        with self.database.connect() as session:
            row = session.execute(f"SELECT count(*) FROM pg_queue_{table} WHERE {where}").fetchone()  # type: ignore[arg-type]  # a test's own text
        assert row is not None
        return int(row[0])

    def wait_for(self, ids: set[str], seconds: float = SOON) -> None:
        """All of these were executed, and no message is left."""
        until(lambda: self.executed().keys() >= ids, seconds, "all are executed")
        until(lambda: self.count("message") == 0, seconds, "the queue is empty")


@contextmanager
def stock(database: ProcessDatabase, folder: Path, blocker: Any) -> Iterator[Stock]:
    """Workers on this database; none of them, and no connection, outlives the block."""
    manage = Manage(database.url)
    app = Celery("caller", set_as_current=False, fixups=[], broker=f"downbeat+{database.url}")
    app.conf.update(task_default_queue=QUEUE, task_send_sent_event=True, task_ignore_result=True)
    before = set(connections.settings)
    with blocker.unblock():
        try:
            yield Stock(database, manage, app, folder)
        finally:
            manage.clean_up()
            app.pool.force_close_all()
            app.amqp.producer_pool.force_close_all()
            for alias in set(connections.settings) - before:
                connections[alias].close()
                del connections[alias]
                del connections.settings[alias]
