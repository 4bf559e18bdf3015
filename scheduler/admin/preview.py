"""The next runs, and those around the next clock changes, of a schedule or of what is being typed into a form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from uuid import UUID

from django.utils.timezone import now

from scheduler import api
from scheduler.admin.presentation import wall
from scheduler.domain import CronDialect, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.forecast.herd import OCCURRENCES
from scheduler.models import PgPeriodicSchedule

FIELDS = {"kind": "kind", "expression": "cron_string", "timezone": "timezone", "dialect": "dialect"}
"""Argument of the evaluator and the form's field for it."""


def of_row(row: PgPeriodicSchedule | None, count: int) -> dict[str, object]:
    """For a page's context: `upcoming`, the next runs of a stored schedule, and `upcoming_error`, why there are none.

    And `clock`, those around the next clock changes beside Celery Beat's, also while it is paused. No runs and no error
    while it is paused, quarantined or over, and for None. The error is that of a row which was written past the choke
    points and that no tick has put into quarantine, as it never will while Beat fires it.
    """
    if row is None:
        return _context([])
    try:
        ahead = [_shown(at, row.timezone) for at in api.upcoming(row, count)]
        return _context(ahead, clock=_clock(api.preview_of(row, count=1)))
    except InvalidInput as error:
        return _context([], str(error))


def of_form(values: Mapping[str, str], count: int, organizations: Collection[str] | None) -> dict[str, object]:
    """The same of a form that is shown once more, with what was typed into it."""
    found = of_input(values, count, organizations)
    context = _context(found.get("results", []), found.get("error", ""), found.get("clock"))
    return {**context, "herd": found.get("herd", "")}


def of_input(values: Mapping[str, str], count: int, organizations: Collection[str] | None) -> dict[str, object]:
    """`results`, `clock` and `herd`, or `error` with the form's `field` for it.

    By this process's clock: it is a preview. `herd` is a warning, empty where it joins none among the schedules of
    these organizations (None: of all), the one of the id `schedule` left out.
    """
    given = {argument: values.get(field, "") for argument, field in FIELDS.items()}
    given |= {"timezone": given["timezone"] or "UTC", "dialect": given["dialect"] or "unix"}
    at = now()
    try:
        found = api.next_occurrences(**given, after=at, count=max(count, OCCURRENCES))
        around = api.preview(_cadence(given), after=at, count=1)
    except InvalidInput as error:
        return {"error": str(error), "field": FIELDS.get(error.field, error.field)}
    scope = api.ForecastScope(organizations=organizations, excluded=_identity(values.get("schedule", "")))
    herd = api.find_herd(found, jitter_seconds=_whole(values.get("jitter_seconds", "")), scope=scope)
    shown = [_shown(one, given["timezone"]) for one in found[:count]]
    return {"results": shown, "clock": _clock(around), "herd": "" if herd is None else herd.sentence}


def _identity(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _whole(text: str) -> int:
    """What the form will refuse is none."""
    return int(text[:9]) if text.isascii() and text.isdigit() else 0


def _cadence(given: Mapping[str, str]) -> api.Cadence:
    """Of arguments that were accepted."""
    kind, dialect = ScheduleKind(given["kind"]), CronDialect(given["dialect"])
    return api.Cadence(kind, api.normalise(kind, given["expression"], dialect), given["timezone"], dialect)


def _context(upcoming: object, error: object = "", clock: object = None) -> dict[str, object]:
    return {"upcoming": upcoming, "upcoming_error": error, "clock": clock}


def _shown(at: datetime, timezone: str) -> dict[str, str]:
    return {"local": wall(at, timezone, with_weekday=True), "utc": wall(at, "UTC")}


def _clock(found: api.Preview) -> dict[str, object]:
    """`changes`, each with its title, rows and how many more there are; `reasons` for differences; `note` on Beat."""
    rows = [row for change in found.changes for row in change.rows if row.differs]
    return {
        "changes": [_shown_change(change, found.timezone) for change in found.changes],
        "reasons": [
            f"{why[:1].upper()}{why[1:]}: {reason}" for why, reason in {_why(r): r.reason for r in rows}.items()
        ],
        "note": found.note,
    }


def _shown_change(change: api.ClockChange, timezone: str) -> dict[str, object]:
    before, after = (change.at.astimezone(UTC) + offset for offset in (change.offset_before, change.offset_after))
    way = "forward" if after > before else "back"
    return {
        "title": f"{before:%A %Y-%m-%d}: at {before:%H:%M} the clock goes {way} to {after:%H:%M}",
        "rows": [
            {"pg": _side(row.pg, timezone), "beat": _side(row.beat, timezone), "why": _why(row) if row.differs else ""}
            for row in change.rows
        ],
        "left_out": f"and {change.left_out} more around it" if change.left_out else "",
    }


def _side(at: datetime | None, timezone: str) -> str:
    return "–" if at is None else wall(at, timezone, with_weekday=True)


def _why(row: api.PreviewRow) -> str:
    return "unexplained" if row.rule is None else row.rule.value.replace("_", " ")
