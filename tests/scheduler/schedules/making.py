"""What the tests of schedules share: tasks to name, and a schedule made in one call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pg_queue.api import task
from scheduler import api


@task("tests.count")
def count(*args: object, **kwargs: object) -> int:
    """Counts its arguments."""
    return len(args) + len(kwargs)


@task("tests.checked", validate="inputs")
def checked(since: datetime) -> None:
    """Has its argument checked."""


def make(**fields: Any) -> api.PgPeriodicSchedule:
    """A schedule of five minutes that PG fires, but for `fields`."""
    return api.create_schedule(**{"name": "Nightly", "task": "tests.count", "expression": "*/5 * * * *"} | fields)


def at(text: str) -> datetime:
    """`2026-03-02 10:07:30` as an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
