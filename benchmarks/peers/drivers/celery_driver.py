"""Celery, stock, with one child: on Redis, or on PostgreSQL by our transport, as `BENCH_BROKER` says.

The worker acknowledges early, as is its default, or late where `BENCH_ACKS_LATE` is set; results are ignored, or kept
where `BENCH_BACKEND` is set.
"""

from __future__ import annotations

import os
import sys

os.environ["DATABASE_URL"] = URL = os.environ["BENCH_DATABASE_URL"]
os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
sys.path.insert(0, os.environ["BENCH_ROOT"])
BROKER, BACKEND = os.environ["BENCH_BROKER"], os.environ.get("BENCH_BACKEND")

import django

django.setup()

from celery import Celery
from common import note, serve

APP = Celery("bench", broker=BROKER, backend=BACKEND, set_as_current=True)
APP.conf.update(
    task_ignore_result=BACKEND is None,
    task_acks_late=bool(os.environ.get("BENCH_ACKS_LATE")),
    task_default_queue="bench",
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "100")),
)


@APP.task(name="noop")
def noop(sent_at: float) -> None:
    """Take the time, where asked."""
    note(sent_at)


class Client:
    """See `common.Client`."""

    def set_up(self) -> None:
        """Connects; the tables, or the server, are there."""
        if BROKER.startswith("redis"):
            from redis import Redis

            self._redis = Redis.from_url(BROKER)
            self._redis.flushdb()  # the benchmark's own server
        else:
            import psycopg

            self._session = psycopg.connect(URL, autocommit=True)

    def enqueue(self, sent_at: float) -> None:
        """By `apply_async`."""
        noop.apply_async((sent_at,))

    def enqueue_many(self, sent_at: float, count: int) -> None:
        """There is no call for many: one by one over one producer, and in one transaction where there is one."""
        from contextlib import nullcontext

        from django.db import transaction

        with nullcontext() if BROKER.startswith("redis") else transaction.atomic(), APP.producer_pool.acquire() as one:
            for _ in range(count):
                noop.apply_async((sent_at,), producer=one)

    def pending(self) -> int:
        """Those that wait, and those that were delivered and not acknowledged."""
        if BROKER.startswith("redis"):
            return self._redis.llen("bench") + self._redis.hlen("unacked")
        return self._session.execute("SELECT count(*) FROM pg_queue_message WHERE queue = 'bench'").fetchone()[0]

    def clear(self) -> None:
        """The queue and the results."""
        if BROKER.startswith("redis"):
            self._redis.flushdb()
        else:
            self._session.execute("TRUNCATE pg_queue_message, pg_queue_result CASCADE")
            self._session.execute("ANALYZE")


def work() -> None:
    """A stock worker."""
    APP.worker_main(["worker", "--concurrency=1", "--pool=prefork", "--loglevel=ERROR", "--queues=bench"])


if __name__ == "__main__":  # a worker that starts processes imports this file in each
    serve(Client, work)
