"""Ours, natively: what `BENCH_TASK` names, run by `run_worker` with the arguments in `BENCH_WORKER`."""

from __future__ import annotations

import os
import sys

import django
import psycopg

os.environ["DATABASE_URL"] = URL = os.environ["BENCH_DATABASE_URL"]
os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
sys.path.insert(0, os.environ["BENCH_ROOT"])

from common import serve

TASK = os.environ.get("BENCH_TASK", "bench.noop")


class Client:
    """See `common.Client`."""

    def set_up(self) -> None:
        """The database is a copy of a migrated one."""
        django.setup()
        self._session = psycopg.connect(URL, autocommit=True)

    def enqueue(self, sent_at: float) -> None:
        """By name: a producer needs no worker's code."""
        from pg_queue.api import enqueue

        enqueue(TASK, [sent_at])

    def enqueue_many(self, sent_at: float, count: int) -> None:
        """One statement."""
        from pg_queue.api import NewMessage, enqueue_many

        enqueue_many([NewMessage(task=TASK, args=[sent_at])] * count)

    def pending(self) -> int:
        """What has ended leaves the table."""
        return self._session.execute("SELECT count(*) FROM pg_queue_message").fetchone()[0]

    def clear(self) -> None:
        """Everything."""
        self._session.execute("TRUNCATE pg_queue_message, pg_queue_result CASCADE")
        self._session.execute("ANALYZE")


def work() -> None:
    """The command that people run."""
    os.chdir(os.environ["BENCH_ROOT"])
    os.execv(sys.executable, [sys.executable, "manage.py", "run_worker", *os.environ["BENCH_WORKER"].split()])


if __name__ == "__main__":  # a worker that starts processes imports this file in each
    serve(Client, work)
