"""Schedules, runs and messages of a process database, by plain SQL on a session of the test's own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from pg_queue.leader import PostgresElection, PostgresLeadership
from tests.processes import ProcessDatabase

ELECTION = "scheduler"


class Rows:
    """What a test puts in and looks at."""

    def __init__(self, database: ProcessDatabase) -> None:
        self.database = database
        self.session = database.connect(row_factory=dict_row)

    def add(self, **columns: Any) -> uuid.UUID:
        """Store a schedule as it is, unchecked: a crontab of every minute where nothing else is said; its id."""
        schedule_id = uuid.uuid4()
        row = {
            "pipeline_id": schedule_id,
            "beat_name": str(schedule_id),
            "pipeline_name": "test",
            "kind": "crontab",
            "cron_string": "* * * * *",
            "task": "echo",
            "args": Jsonb(["a"]),
            "kwargs": Jsonb({"b": 1}),
            **columns,
        }
        statement = sql.SQL("INSERT INTO scheduler_pgperiodicschedule ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(map(sql.Placeholder, row))
        )
        self.session.execute(statement, row)
        return schedule_id

    def add_interval(self, seconds: float, **columns: Any) -> uuid.UUID:
        """Store an interval of so many seconds; its id."""
        expression = f"PT{seconds:g}S"
        return self.add(kind="interval", cron_string=expression, interval_seconds=seconds, **columns)

    def add_many(self, count: int, next_run_at: datetime, *, cadences: int = 1) -> None:
        """Store `count` crontabs of so many distinct cadences (at most 1,298), all of which occur on the full hour."""
        self.session.execute(
            """
            INSERT INTO scheduler_pgperiodicschedule
                (pipeline_id, beat_name, pipeline_name, kind, cron_string, task, args, kwargs, next_run_at)
            SELECT id, id::text, 'many', 'crontab',
                   format('0,%%s * 1-%%s * *', 1 + number %% %(cadences)s %% 59, 10 + number %% %(cadences)s / 59),
                   'echo', '[]', '{}', %(at)s
            FROM (SELECT gen_random_uuid() AS id, number FROM generate_series(1, %(count)s) AS number) AS made
            """,
            {"count": count, "cadences": cadences, "at": next_run_at},
        )

    def get(self, schedule_id: uuid.UUID) -> dict[str, Any]:
        """The schedule's row."""
        row = self.session.execute(
            "SELECT * FROM scheduler_pgperiodicschedule WHERE pipeline_id = %s", [schedule_id]
        ).fetchone()
        assert row is not None
        return row

    def change(self, schedule_id: uuid.UUID, **columns: Any) -> None:
        """Set columns, unchecked."""
        assignments = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(c), sql.Placeholder(c)) for c in columns
        )
        statement = sql.SQL("UPDATE scheduler_pgperiodicschedule SET {} WHERE pipeline_id = {}").format(
            assignments, sql.Placeholder("pipeline_id")
        )
        self.session.execute(statement, {**columns, "pipeline_id": schedule_id})

    def runs(self, schedule_id: uuid.UUID | None = None) -> list[dict[str, Any]]:
        """Ledger rows by instant, of one schedule or of all."""
        return self.session.execute(
            "SELECT * FROM scheduler_schedulerun WHERE schedule_id = %(id)s OR %(id)s::uuid IS NULL"
            " ORDER BY scheduled_for, id",
            {"id": schedule_id},
        ).fetchall()

    def messages(self) -> list[dict[str, Any]]:
        """Messages in the order in which they were enqueued."""
        return self.session.execute("SELECT * FROM pg_queue_message ORDER BY sequence").fetchall()

    def count(self, query: str) -> int:
        """The number that a query answers."""
        row = self.session.execute(query).fetchone()
        assert row is not None
        return int(next(iter(row.values())))

    def close(self) -> None:
        """End the session."""
        self.session.close()


def candidacy(database: ProcessDatabase, name: str = ELECTION, **options: Any) -> PostgresElection:
    """A candidacy on this database."""
    return PostgresElection(name=name, connect=lambda: psycopg.connect(database.url, autocommit=True), **options)


@contextmanager
def lead(database: ProcessDatabase, name: str = ELECTION) -> Iterator[PostgresLeadership]:
    """Lead on this database while the block lasts."""
    with candidacy(database, name) as election:
        leadership = election.stand()
    assert leadership is not None
    try:
        yield leadership
    finally:
        leadership.resign()
