"""The guard of Beat's rows: a trigger on dcb's table, kept by the database itself, and a tripwire.

Installed after every migration that finds dcb's table and ours, in whatever order the two apps were migrated; removed
when ours is gone. No migration depends on dcb. It stays for as long as any schedule is PG's. What it undoes is noted in
`BeatCatch`. Who removes it does so by `remove`, and it then stays removed until `restore`: the removal is remembered as
a comment on the table of the notes. What it does and why is in `sql/postgres/beat_trigger.sql`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db import connections, transaction
from psycopg import sql

from scheduler.settings import scheduler_settings
from scheduler.statements import statements


class GuardState(StrEnum):
    """Whether Beat's rows are guarded."""

    ARMED = "armed"
    REMOVED = "removed"
    """Somebody removed it by the command; no migration puts it back."""
    MISSING = "missing"
    """It is gone, or switched off, and nobody said so; the next migration puts it back."""
    IDLE = "idle"
    """dcb or the scheduler is not migrated here: there is nothing to guard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What the connection finds."""

    beat: str | None
    """dcb's table as SQL may name it; None: dcb is not migrated here."""
    schema: str | None
    """The schema of the schedules; None: the scheduler is not migrated here."""
    is_guarded: bool
    """Whether the trigger is there, and not switched off."""
    removal: str | None
    """Who removed it, and when; None: nobody did."""

    @property
    def state(self) -> GuardState:
        """In a word."""
        if self.beat is None or self.schema is None:
            return GuardState.IDLE
        if self.is_guarded:
            return GuardState.ARMED
        return GuardState.MISSING if self.removal is None else GuardState.REMOVED


def find_tables(using: str) -> Tables:
    """Look where the tables and the trigger are."""
    beat, schema, is_guarded, removal = _ask(using, statements("beat_trigger")["find_tables"])
    return Tables(beat=beat, schema=schema, is_guarded=is_guarded, removal=removal)


def install(using: str) -> bool:
    """Install the guard, or bring it up to date, unless somebody removed it; whether it is there afterwards.

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
        _execute(using, _compose("create_note", tables.schema))
        _execute(using, _compose("create_function", tables.schema))
        if tables.state is GuardState.MISSING:
            _execute(using, _compose("create_trigger", tables.schema, tables.beat))
        return tables.state is not GuardState.REMOVED


def remove(using: str, note: str) -> Tables:
    """Remove the guard, and remember `note` (who, and when) until `restore`; what was found before.

    Opens one transaction, in which dcb's table is locked. Does nothing where there is nothing to guard.
    """
    with transaction.atomic(using=using):
        _execute(using, statements("beat_trigger")["one_at_a_time"])
        tables = find_tables(using)
        if tables.beat is not None and tables.schema is not None:
            _execute(using, _compose("drop_trigger", tables.schema, tables.beat))
            _execute(using, _compose("remember_removal", tables.schema, note=note))
    return tables


def restore(using: str) -> int:
    """Install the guard after all; how many rows it had to disable, which were enabled while it was away.

    Opens one transaction. Beat hears of those rows.
    """
    with transaction.atomic(using=using):
        tables = find_tables(using)
        if tables.beat is None or tables.schema is None:
            return 0
        _execute(using, _compose("forget_removal", tables.schema))
        install(using)
        [disabled] = _ask(using, _compose("guard_anew", tables.schema, tables.beat))
        if disabled:
            _execute(using, statements("beat_rows")["announce_change"])
    return int(disabled)


def install_after_migrate(*, using: str, **_: object) -> None:
    """The `post_migrate` receiver: acts on the scheduler's own database when it is PostgreSQL."""
    if using == scheduler_settings().database and connections[using].vendor == "postgresql":
        install(using)


def _compose(name: str, schema: str, beat: str = "", note: str = "") -> sql.Composed:
    schedules = sql.Identifier(schema, "scheduler_pgperiodicschedule")
    return sql.SQL(statements("beat_trigger")[name]).format(
        schema=sql.Identifier(schema),
        schedules=schedules,
        schedules_text=sql.Literal(schedules.as_string()),
        catches=sql.Identifier(schema, "scheduler_beatcatch"),
        beat=sql.SQL(beat),  # a regclass: quoted by PostgreSQL
        note=sql.Literal(note),
    )


def _execute(using: str, statement: Any) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(statement)


def _ask(using: str, statement: Any) -> tuple[Any, ...]:
    with connections[using].cursor() as cursor:
        cursor.execute(statement)
        answer: tuple[Any, ...] = cursor.fetchone()
    return answer
