"""The clock that decides what is due: the database's, never this process's."""

from __future__ import annotations

from datetime import datetime

from django.db import connections

from scheduler.statements import statements


def now(using: str) -> datetime:
    """The database's clock at this statement (not at the transaction's start), aware, UTC."""
    with connections[using].cursor() as cursor:
        cursor.execute(statements("schedules")["now"])
        instant: datetime = cursor.fetchone()[0]
    return instant
