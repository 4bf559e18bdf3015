"""A migrated, throwaway database to measure on: on `DATABASE_URL`'s server, or on an embedded one of the run's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from backend.standalone.postgres import EmbeddedPostgres
from tests.processes import ProcessDatabase, copied_database, template_database

# As PostgreSQL is delivered, and unlike the tests' servers: what was committed survives a crash of the machine.
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}

FILL = """
    INSERT INTO scheduler_pgperiodicschedule
        (pipeline_id, beat_name, pipeline_name, kind, cron_string, task, args, kwargs, next_run_at)
    SELECT id, id::text, 'pipeline ' || number, 'crontab',
           format('0,%%s * * * *', 1 + number %% %(cadences)s %% 59),
           'noop', '[]', jsonb_build_object('tenant', number), %(at)s
    FROM (SELECT gen_random_uuid() AS id, number FROM generate_series(1, %(count)s) AS number) AS made
"""


@contextmanager
def scratch_database() -> Iterator[ProcessDatabase]:
    """The database; `server_facts` says for the report which server it is on, and how durable that is."""
    if url := os.environ.get("DATABASE_URL"):
        with _database(url) as database:
            yield database
        return
    server = EmbeddedPostgres.ephemeral(settings=DURABLE)
    try:
        url = server.start()
        with psycopg.connect(server.admin_url, autocommit=True) as admin:
            admin.execute("GRANT pg_checkpoint TO downbeat")  # for `settle`
        with _database(url) as database:
            yield database
    finally:
        server.discard()


@contextmanager
def _database(url: str) -> Iterator[ProcessDatabase]:
    with template_database(url) as template, copied_database(url, template, "bench") as database:
        yield database


def server_facts(session: psycopg.Connection) -> dict[str, str]:
    """The server's version, and the settings that its durability depends on."""
    names = ("server_version", *DURABLE)
    row = session.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in names)).fetchone()
    assert row is not None
    return dict(zip(names, row, strict=True))


def empty(session: psycopg.Connection) -> None:
    """Remove every schedule, run and message."""
    session.execute("TRUNCATE scheduler_pgperiodicschedule, scheduler_schedulerun, pg_queue_message, pg_queue_result")


def fill(session: psycopg.Connection, count: int, at: object, *, cadences: int = 50) -> None:
    """Replace everything by `count` schedules due at `at`: an instant, or SQL's text for one."""
    empty(session)
    session.execute(FILL, {"count": count, "at": at, "cadences": cadences})
    session.execute("VACUUM ANALYZE scheduler_pgperiodicschedule")
    settle(session)


def settle(session: psycopg.Connection) -> None:
    """Let no earlier work weigh on what is measured next, where the role may say so."""
    with suppress(psycopg.errors.InsufficientPrivilege):
        session.execute("CHECKPOINT")
