"""Procrastinate: one asyncio worker, ten at once."""

from __future__ import annotations

import os
import sys

import procrastinate
import psycopg
from common import note, serve

URL = os.environ["BENCH_DATABASE_URL"]
CONNECTOR = procrastinate.PsycopgConnector if sys.argv[1:] == ["worker"] else procrastinate.SyncPsycopgConnector
APP = procrastinate.App(connector=CONNECTOR(conninfo=URL))


@APP.task(name="noop")
async def noop(sent_at: float) -> None:
    """Take the time, where asked."""
    note(sent_at)


class Client:
    """See `common.Client`."""

    def set_up(self) -> None:
        """By its schema."""
        APP.open()
        APP.schema_manager.apply_schema()
        self._session = psycopg.connect(URL, autocommit=True)

    def enqueue(self, sent_at: float) -> None:
        """By `defer`."""
        noop.defer(sent_at=sent_at)

    def enqueue_many(self, sent_at: float, count: int) -> None:
        """By `batch_defer`."""
        noop.batch_defer(*[{"sent_at": sent_at}] * count)

    def pending(self) -> int:
        """Jobs stay in their table."""
        query = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
        return self._session.execute(query).fetchone()[0]

    def clear(self) -> None:
        """The jobs and their events."""
        self._session.execute("TRUNCATE procrastinate_jobs CASCADE")
        self._session.execute("ANALYZE")


if __name__ == "__main__":  # a worker that starts processes imports this file in each
    serve(Client, lambda: APP.run_worker(concurrency=10))
