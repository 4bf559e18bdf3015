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


def of_row(row: PgPeriodicSchedule | None, count: int) -> dict[str, object]:
    """For a page's context: `upcoming`, the next runs of a stored schedule, and `upcoming_error`, why there are none.

    No runs and no error while it is paused, quarantined or over, and for None. The error is that of a row which was
    written past the choke points and that no tick has put into quarantine, as it never will while Beat fires it.
    """
    if row is None:
        return _context([])
    try:
        return _context([_shown(at, row.timezone) for at in api.upcoming(row, count)])
    except InvalidInput as error:
        return _context([], str(error))


def of_form(values: Mapping[str, str], count: int) -> dict[str, object]:
    """The same of a form that is shown once more, with what was typed into it."""
    found = of_input(values, count)
    return _context(found.get("results", []), found.get("error", ""))


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


def _context(upcoming: object, error: object = "") -> dict[str, object]:
    return {"upcoming": upcoming, "upcoming_error": error}


def _shown(at: datetime, timezone: str) -> dict[str, str]:
    return {"local": wall(at, timezone, with_weekday=True), "utc": wall(at, "UTC")}
