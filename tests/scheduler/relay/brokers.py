"""Real brokers for a stock Celery project, and what arrives at them."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from redis import Redis

from tests.processes import Manage, RunningProcess
from tests.scheduler.processes.test_failover import wait_until
from tests.scheduler.rows import Rows
from tests.services import RABBITMQ_URL, REDIS_URL

APP = "tests.scheduler.relay.proj.celery.app"
TOPIC = f"relay:celery:{APP}"
EACH_BROKER = [
    pytest.param(RABBITMQ_URL, marks=pytest.mark.services("rabbitmq"), id="rabbitmq"),
    pytest.param(REDIS_URL, marks=pytest.mark.services("redis"), id="redis"),
]
IN_SHORT = [
    EACH_BROKER[0],
    pytest.param(REDIS_URL, marks=[pytest.mark.services("redis"), pytest.mark.soak], id="redis"),
]
"""The second only in `make soak`."""
SOON = 200


class Broker:
    """A queue of the test's own at a real broker."""

    def __init__(self, url: str) -> None:
        self.url, self.name = url, f"downbeat_test_{uuid.uuid4().hex}"
        self.options = {} if url.startswith("amqp") else {"global_keyprefix": f"{self.name}:"}

    @property
    def environment(self) -> dict[str, str]:
        """What the project's settings read."""
        return {
            "PROJ_BROKER_URL": self.url,
            "PROJ_TRANSPORT_OPTIONS": json.dumps(self.options),
            "PROJ_QUEUE": self.name,
        }

    def arrived(self) -> Counter[str]:
        """The task ids of the messages that wait, taken; how often each has arrived."""
        with Connection(self.url, transport_options=self.options) as connection:
            queue = Queue(self.name, channel=connection.default_channel)
            queue.declare()
            return Counter(message.headers["id"] for message in iter(lambda: queue.get(no_ack=True), None))

    def remove(self) -> None:
        """Leave nothing behind."""
        if not self.url.startswith("amqp"):
            client = Redis.from_url(self.url)
            for key in client.scan_iter(f"{self.name}:*", count=1000):
                client.delete(key)
            client.close()
            return
        with Connection(self.url) as connection:
            Queue(self.name, channel=connection.default_channel).delete()
            Exchange(self.name, channel=connection.default_channel).delete()


@contextmanager
def broker_at(url: str) -> Iterator[Broker]:
    """A broker's queue while the block lasts."""
    broker = Broker(url)
    try:
        yield broker
    finally:
        broker.remove()


class OwnRedis:
    """A redis-server of the test's own that writes each command to its disk, to be killed and started again."""

    def __init__(self, manage: Manage, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("absent: redis-server")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._manage = manage
        self._argv = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        self._argv += ["--appendonly", "yes", "--appendfsync", "always"]
        self.process: RunningProcess | None = None

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self.process = self._manage.launch(self._argv)
        self.process.wait_for_line("Ready to accept connections", SOON)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()


class Project:
    """A project whose workers and broker are Celery's: its scheduler is ours."""

    def __init__(self, manage: Manage, rows: Rows, folder: Path, broker: Broker, **settings: Any) -> None:
        self.manage, self.rows, self.broker = manage, rows, broker
        self._notes = folder / "notes"
        self._notes.touch()
        conf = {"ROUTES": {"*": {"CELERY": APP}}, "RELAY_LEASE_SECONDS": 2, "RELAY_BACKOFF_MAX_SECONDS": 1, **settings}
        self.environment = {
            "DJANGO_SETTINGS_MODULE": "tests.scheduler.relay.proj.settings",
            "PROJ_PG_QUEUE": json.dumps(conf),
            "PROJ_NOTES": str(self._notes),
            **broker.environment,
        }

    def start_worker(self) -> RunningProcess:
        """A stock worker, ready."""
        argv = [sys.executable, "-m", "celery", "-A", "tests.scheduler.relay.proj", "worker", "-l", "INFO"]
        argv += ["-c", "1", "-Q", self.broker.name, "-n", f"{self.broker.name}@here"]
        worker = self.manage.launch(argv, env=self.environment)
        worker.wait_for_line(r"ready\.$", SOON)
        return worker

    def start_scheduler(self, *options: str) -> RunningProcess:
        """A scheduler, started."""
        scheduler = self.manage("run_scheduler", *options, env=self.environment)
        scheduler.wait_for_line("^started", SOON)
        return scheduler

    def notes(self) -> list[dict[str, Any]]:
        """What the tasks have written down."""
        return [json.loads(line) for line in self._notes.read_text().splitlines()]

    def executed(self) -> Counter[str]:
        """Task ids, with how often each was executed."""
        return Counter(note["id"] for note in self.notes())

    def add_every_second(self, count: int, **columns: Any) -> None:
        """Schedules that fire the task every second, from now on, none of them left out."""
        for _ in range(count):
            schedule_id = self.rows.add_interval(1, task="proj.note", catch_up="all", **{"queue": "default", **columns})
            self.rows.session.execute(
                "UPDATE scheduler_pgperiodicschedule SET next_run_at = date_trunc('second', now()) + interval '1 s'"
                " WHERE pipeline_id = %s",
                [schedule_id],
            )

    def stop_firing(self) -> None:
        """Nothing is due from now on."""
        self.rows.session.execute("UPDATE scheduler_pgperiodicschedule SET enabled = false")

    def fired(self) -> set[str]:
        """The ids of all runs that were fired."""
        return {str(run["id"]) for run in self.rows.runs() if run["fired_at"] is not None}

    def wait_until_relayed(self, seconds: float = SOON) -> None:
        """The outbox is empty."""
        wait_until(lambda: self.rows.count("SELECT count(*) FROM pg_queue_event") == 0, seconds, "all is relayed")
