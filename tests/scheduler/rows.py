"""Schedules, runs and messages of a process database, by plain SQL on a session of the test's own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from django.db import models
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from pg_queue.leader import Election, Leadership, PostgresElection, SqliteElection
from pg_queue.models import Message
from pg_queue.sqlite import as_instant, as_text
from scheduler.models import PgPeriodicSchedule, ScheduleRun
from tests.processes import ProcessDatabase, SqliteFile

ELECTION = "scheduler"


class Rows:
    """What a test puts in and looks at, in PostgreSQL."""

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

    def change_all(self, table: str, **columns: Any) -> None:
        """Set columns of every row of a table."""
        assignments = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(c), sql.Placeholder(c)) for c in columns
        )
        self.session.execute(sql.SQL("UPDATE {} SET {}").format(sql.Identifier(table), assignments), columns)

    def delete(self, schedule_id: uuid.UUID) -> None:
        """Delete the row."""
        self.session.execute("DELETE FROM scheduler_pgperiodicschedule WHERE pipeline_id = %s", [schedule_id])

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


class SqliteRows(Rows):
    """The same, in a file of SQLite, whose columns hold what Django stores there."""

    def __init__(self, database: SqliteFile) -> None:
        self.database = database  # type: ignore[assignment]
        self.session: Any = database.connect()

    def add(self, **columns: Any) -> uuid.UUID:
        """See `Rows`."""
        schedule_id = uuid.uuid4()
        row = {
            "pipeline_id": schedule_id,
            "beat_name": str(schedule_id),
            "pipeline_name": "test",
            "kind": "crontab",
            "cron_string": "* * * * *",
            "task": "echo",
            "args": ["a"],
            "kwargs": {"b": 1},
            **columns,
        }
        self._insert([row])
        return schedule_id

    def add_many(self, count: int, next_run_at: datetime, *, cadences: int = 1) -> None:
        """See `Rows`."""
        rows = []
        for number in range(1, count + 1):
            schedule_id, cadence = uuid.uuid4(), number % cadences
            row = {"pipeline_id": schedule_id, "beat_name": str(schedule_id), "pipeline_name": "many"}
            when = {"cron_string": f"0,{1 + cadence % 59} * 1-{10 + cadence // 59} * *", "next_run_at": next_run_at}
            rows.append({**row, "kind": "crontab", **when, "task": "echo", "args": [], "kwargs": {}})
        self._insert(rows)

    def get(self, schedule_id: uuid.UUID) -> dict[str, Any]:
        """See `Rows`."""
        query = "SELECT * FROM scheduler_pgperiodicschedule WHERE pipeline_id = ?"
        [row] = self._select(PgPeriodicSchedule, query, [schedule_id])
        return row

    def change(self, schedule_id: uuid.UUID, **columns: Any) -> None:
        """See `Rows`."""
        assignments = ", ".join(f"{column} = ?" for column in columns)
        statement = f"UPDATE scheduler_pgperiodicschedule SET {assignments} WHERE pipeline_id = ?"
        self.session.execute(statement, [_stored(value) for value in (*columns.values(), schedule_id)])

    def change_all(self, table: str, **columns: Any) -> None:
        """See `Rows`."""
        assignments = ", ".join(f"{column} = ?" for column in columns)
        self.session.execute(f"UPDATE {table} SET {assignments}", [_stored(value) for value in columns.values()])

    def delete(self, schedule_id: uuid.UUID) -> None:
        """See `Rows`."""
        self.session.execute("DELETE FROM scheduler_pgperiodicschedule WHERE pipeline_id = ?", [schedule_id.hex])

    def runs(self, schedule_id: uuid.UUID | None = None) -> list[dict[str, Any]]:
        """See `Rows`."""
        where = "" if schedule_id is None else "WHERE schedule_id = ?"
        query = f"SELECT * FROM scheduler_schedulerun {where} ORDER BY scheduled_for, id"
        return self._select(ScheduleRun, query, [] if schedule_id is None else [schedule_id])

    def messages(self) -> list[dict[str, Any]]:
        """See `Rows`."""
        return self._select(Message, "SELECT * FROM pg_queue_message ORDER BY sequence", [])

    def count(self, query: str) -> int:
        """See `Rows`."""
        return int(self.session.execute(query).fetchone()[0])

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        columns, marks = ", ".join(rows[0]), ", ".join("?" for _ in rows[0])
        statement = f"INSERT INTO scheduler_pgperiodicschedule ({columns}) VALUES ({marks})"
        self.session.execute("BEGIN IMMEDIATE")
        try:
            self.session.executemany(statement, ([_stored(value) for value in row.values()] for row in rows))
            self.session.execute("COMMIT")
        finally:
            if self.session.in_transaction:
                self.session.execute("ROLLBACK")

    def _select(self, model: type[models.Model], query: str, values: list[Any]) -> list[dict[str, Any]]:
        cursor = self.session.execute(query, [_stored(value) for value in values])
        names = [column[0] for column in cursor.description]
        fields = {field.column: field for field in model._meta.concrete_fields}
        return [
            {name: _loaded(fields[name], value) for name, value in zip(names, row, strict=True)}
            for row in cursor.fetchall()
        ]


def _stored(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return value.hex
    if isinstance(value, datetime):
        return as_text(value)
    return json.dumps(value) if isinstance(value, list | dict) else value


def _loaded(field: Any, value: Any) -> Any:
    target = getattr(field, "target_field", field)
    if value is None:
        return None
    if isinstance(target, models.UUIDField):
        return uuid.UUID(value)
    if isinstance(target, models.DateTimeField):
        return as_instant(value)
    if isinstance(target, models.JSONField):
        return json.loads(value)
    return bool(value) if isinstance(target, models.BooleanField) else value


def rows_of(database: ProcessDatabase | SqliteFile) -> Rows:
    """The rows of a database, whichever it is."""
    return SqliteRows(database) if isinstance(database, SqliteFile) else Rows(database)


def candidacy(database: ProcessDatabase | SqliteFile, name: str = ELECTION, **options: Any) -> Election:
    """A candidacy on this database."""
    if isinstance(database, SqliteFile):
        return SqliteElection(name=name, connect=database.connect, **options)
    return PostgresElection(name=name, connect=lambda: psycopg.connect(database.url, autocommit=True), **options)


@contextmanager
def lead(database: ProcessDatabase | SqliteFile, name: str = ELECTION) -> Iterator[Leadership]:
    """Lead on this database while the block lasts."""
    with candidacy(database, name) as election:
        leadership = election.stand()
    assert leadership is not None
    try:
        yield leadership
    finally:
        leadership.resign()
