"""Chancy: its asyncio executor, a hundred at once, polling eagerly."""

from __future__ import annotations

import asyncio
import logging
import os

import psycopg
from chancy import Chancy, Queue, Worker
from chancy_jobs import noop
from common import serve

URL = os.environ["BENCH_DATABASE_URL"]
QUIET = logging.getLogger("quiet")
QUIET.addHandler(logging.NullHandler())
QUIET.setLevel(logging.ERROR)
QUEUE = Queue("default", executor="chancy.executors.asyncex.AsyncExecutor", concurrency=100, eager_polling=True)


class Client:
    """See `common.Client`."""

    def set_up(self) -> None:
        """By its migrations."""

        async def migrate() -> None:
            async with Chancy(URL, log=QUIET) as chancy:
                await chancy.migrate()
                await chancy.declare(QUEUE, upsert=True)

        asyncio.run(migrate())
        self._session = psycopg.connect(URL, autocommit=True)
        self._chancy = Chancy(URL, log=QUIET)
        self._chancy.__enter__()

    def enqueue(self, sent_at: float) -> None:
        """By `sync_push`."""
        self._chancy.sync_push(noop.job.with_kwargs(sent_at=sent_at))

    def enqueue_many(self, sent_at: float, count: int) -> None:
        """By `sync_push_many`, which goes row by row in one transaction."""
        for _ in self._chancy.sync_push_many([noop.job.with_kwargs(sent_at=sent_at) for _ in range(count)]):
            pass

    def pending(self) -> int:
        """Jobs stay in their table."""
        return self._session.execute("SELECT count(*) FROM chancy_jobs WHERE state <> 'succeeded'").fetchone()[0]

    def clear(self) -> None:
        """The jobs."""
        self._session.execute("TRUNCATE chancy_jobs CASCADE")
        self._session.execute("ANALYZE")


def work() -> None:
    """Until it is told to stop."""

    async def run() -> None:
        async with Chancy(URL, log=QUIET) as chancy:
            await chancy.declare(QUEUE, upsert=True)
            async with Worker(chancy) as worker:
                await worker.wait_for_shutdown()

    asyncio.run(run())


if __name__ == "__main__":  # a worker that starts processes imports this file in each
    serve(Client, work)
