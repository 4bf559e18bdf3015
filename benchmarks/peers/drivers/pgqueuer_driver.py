"""PgQueuer: an asyncio worker on asyncpg with uvloop; enqueued by its synchronous client on psycopg."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from common import note, serve

URL = os.environ["BENCH_DATABASE_URL"]
BATCH = 100


class Client:
    """See `common.Client`."""

    def set_up(self) -> None:
        """By its own command."""
        from pgqueuer.adapters.drivers.psycopg import SyncPsycopgDriver
        from pgqueuer.queries import SyncQueries

        place = urlsplit(URL)
        environment = {
            "PGHOST": place.hostname or "",
            "PGPORT": str(place.port),
            "PGUSER": place.username or "",
            "PGPASSWORD": place.password or "",
            "PGDATABASE": place.path[1:],
        }
        command = Path(sys.executable).with_name("pgq")
        subprocess.run([command, "install"], env=os.environ | environment, check=True, capture_output=True)
        self._session = psycopg.connect(URL, autocommit=True)
        self._queries = SyncQueries(SyncPsycopgDriver(psycopg.connect(URL, autocommit=True)))

    def enqueue(self, sent_at: float) -> None:
        """By `SyncQueries.enqueue`."""
        self._queries.enqueue("noop", repr(sent_at).encode())

    def enqueue_many(self, sent_at: float, count: int) -> None:
        """By the same, with lists."""
        self._queries.enqueue(["noop"] * count, [repr(sent_at).encode()] * count, [0] * count)

    def pending(self) -> int:
        """What is finished leaves the table for the log."""
        return self._session.execute("SELECT count(*) FROM pgqueuer").fetchone()[0]

    def clear(self) -> None:
        """Both tables."""
        self._session.execute("TRUNCATE pgqueuer, pgqueuer_log")
        self._session.execute("ANALYZE")


def work() -> None:
    """One process, its queue manager taking batches."""
    import asyncpg
    import uvloop
    from pgqueuer import PgQueuer

    async def run() -> None:
        queuer = PgQueuer.from_asyncpg_connection(await asyncpg.connect(URL))

        @queuer.entrypoint("noop")
        async def noop(job: object) -> None:
            note(float(job.payload))

        await queuer.qm.run(batch_size=BATCH)

    uvloop.run(run())


if __name__ == "__main__":  # a worker that starts processes imports this file in each
    serve(Client, work)
