"""The next runs, of a schedule or of what is being typed into a form."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.utils.timezone import now

from scheduler import api
from scheduler.admin.presentation import wall
from scheduler.errors import InvalidInput
from scheduler.models import PgPeriodicSchedule

FIELDS = {"kind": "kind", "expression": "cron_string", "timezone": "timezone", "dialect": "dialect"}
"""Argument of the evaluator and the form's field for it."""


def of_schedule(row: PgPeriodicSchedule, count: int) -> list[dict[str, str]]:
    """The next runs of a stored schedule; none while it is paused, quarantined or over."""
    return [_shown(at, row.timezone) for at in api.upcoming(row, count)]


def of_input(values: Mapping[str, str], count: int) -> dict[str, object]:
    """`results`, or `error` with the form's `field` for it. From the clock of this process: it is a preview."""
    given = {argument: values.get(field, "") for argument, field in FIELDS.items()}
    try:
        found = api.next_occurrences(
            kind=given["kind"],
            expression=given["expression"],
            timezone=given["timezone"] or "UTC",
            dialect=given["dialect"] or "unix",
            after=now(),
            count=count,
        )
    except InvalidInput as error:
        return {"error": str(error), "field": FIELDS.get(error.field, error.field)}
    return {"results": [_shown(at, given["timezone"] or "UTC") for at in found]}


def _shown(at: datetime, timezone: str) -> dict[str, str]:
    return {"local": wall(at, timezone, with_weekday=True), "utc": wall(at, "UTC")}
