"""The clock that decides what is due: the database's, not this process's. SQLite's is the machine's: it is both."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connections

from scheduler.statements import statements


def now(using: str) -> datetime:
    """The database's clock at this statement (not at the transaction's start), aware, UTC."""
    if connections[using].vendor == "sqlite":
        return datetime.now(UTC)
    with connections[using].cursor() as cursor:
        cursor.execute(statements("schedules")["now"])
        instant: datetime = cursor.fetchone()[0]
    return instant
