"""Schedules that occur together, counted by the database, so that each distinct cadence is evaluated once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connections
from psycopg import sql

from scheduler.dialect import is_sqlite
from scheduler.domain import MOST_COUNTED, CronDialect, ScheduleKind
from scheduler.forecast.grids import ANSWERS
from scheduler.recurrence import Cadence, count_between
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

_MINUTE = timedelta(minutes=1)
_PARTS = ("jitter", "is_counted", "is_on_grid", "period", "remaining")
"""Expressions that several statements share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which schedules are counted."""

    organizations: Collection[str] | None = None
    """None: those of all."""
    excluded: UUID | None = None
    """This one is not."""

    def parameters(self) -> dict[str, Any]:
        """For the statements of `forecast.sql`."""
        organizations = None if self.organizations is None else list(self.organizations)
        return {"organizations": organizations, "excluded": self.excluded}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Crontabs or solar schedules that occur together, and begin together."""

    cadence: Cadence
    delay: timedelta
    """How much later than their occurrences they begin; of a crontab, whole minutes of it."""
    starts_at: datetime | None
    """Where that is ahead."""
    ends_at: datetime | None
    """Where that is within what was asked for."""
    remaining: int | None
    """How often each may still be fired."""
    schedules: int

    def begins_within(self, minute: datetime, now: datetime) -> bool:
        """Whether a run begins in the minute that starts there.

        Raises:
            InvalidInput: the cadence means nothing.
        """
        first = minute - self.delay
        start = max(first, now, self.starts_at or first)
        end = min(first + _MINUTE, self.ends_at or first + _MINUTE)
        if not count_between(self.cadence, start, end, MOST_COUNTED):
            return False
        if self.remaining is None:
            return True
        before = count_between(self.cadence, max(now, self.starts_at or now), start, MOST_COUNTED)
        return before is not None and before < self.remaining


def find_groups(scope: Scope, *, since: datetime, until: datetime, most: int) -> tuple[list[Group], int]:
    """At most `most` groups, the largest first, and how many crontabs and solar schedules there are in all."""
    found = ask("cadences", {**scope.parameters(), "since": since, "until": until, "most": most})
    groups = [
        Group(
            cadence=Cadence(ScheduleKind(kind), expression, timezone, CronDialect(dialect)),
            delay=timedelta(milliseconds=delay),
            starts_at=starts_at,
            ends_at=ends_at,
            remaining=remaining,
            schedules=schedules,
        )
        for kind, expression, timezone, dialect, delay, starts_at, ends_at, remaining, schedules, _ in found
    ]
    return groups, found[0][-1] if found else 0


def ask(name: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of a statement of `forecast.sql`; on SQLite laid out in Python."""
    if is_sqlite():
        return ANSWERS[name](parameters)
    with connections[scheduler_settings().database].cursor() as cursor:
        cursor.execute(_composed(name), parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


@cache
def _composed(name: str) -> sql.Composed:
    texts = statements("forecast")
    return sql.SQL(texts[name]).format(**{part: sql.SQL(texts[part]) for part in _PARTS})
