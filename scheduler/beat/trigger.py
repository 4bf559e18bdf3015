"""The guard of Beat's rows: a trigger on dcb's table, kept by the database itself.

Installed after every migration that finds dcb's table and ours, in whatever order the two apps were migrated; removed
when ours is gone. No migration depends on dcb. It stays for as long as any schedule is PG's. What it does and why is in
`sql/postgres/beat_trigger.sql`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction
from psycopg import sql

from scheduler.settings import scheduler_settings
from scheduler.statements import statements


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What the connection finds."""

    beat: str | None
    """dcb's table as SQL may name it; None: dcb is not migrated here."""
    schema: str | None
    """The schema of the schedules; None: the scheduler is not migrated here."""
    is_guarded: bool
    """Whether the trigger is there."""


def find_tables(using: str) -> Tables:
    """Look where the tables and the trigger are."""
    with connections[using].cursor() as cursor:
        cursor.execute(statements("beat_trigger")["find_tables"])
        beat, schema, is_guarded = cursor.fetchone()
    return Tables(beat=beat, schema=schema, is_guarded=is_guarded)


def install(using: str) -> bool:
    """Install the guard, or bring it up to date; whether it is there afterwards.

    Opens one transaction. Takes a lock on dcb's table only where the trigger is new. Removes the guard where the
    schedules' table is gone: it would have nothing to ask.
    """
    with transaction.atomic(using=using):
        _execute(using, statements("beat_trigger")["one_at_a_time"])
        tables = find_tables(using)
        if tables.schema is None:
            _execute(using, statements("beat_trigger")["drop"])
            return False
        if tables.beat is None:
            return False
        _execute(using, _compose("create_function", tables.schema))
        if not tables.is_guarded:
            _execute(using, _compose("create_trigger", tables.schema, tables.beat))
    return True


def install_after_migrate(*, using: str, **_: object) -> None:
    """The `post_migrate` receiver: acts on the scheduler's own database when it is PostgreSQL."""
    if using == scheduler_settings().database and connections[using].vendor == "postgresql":
        install(using)


def _compose(name: str, schema: str, beat: str = "") -> sql.Composed:
    schedules = sql.Identifier(schema, "scheduler_pgperiodicschedule")
    return sql.SQL(statements("beat_trigger")[name]).format(
        schema=sql.Identifier(schema),
        schedules=schedules,
        schedules_text=sql.Literal(schedules.as_string()),
        beat=sql.SQL(beat),  # a regclass: quoted by PostgreSQL
    )


def _execute(using: str, statement: Any) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(statement)
