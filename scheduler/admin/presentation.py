"""How instants, states and JSON look on every page: time zone always named, colours by stylesheet."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from scheduler.cutover import AnswerStatus
from scheduler.domain import HandoverState, RunState, ScheduleState

if TYPE_CHECKING:
    from scheduler.models import ScheduleChange

NOTHING: SafeString = mark_safe('<span class="db-none">–</span>')
_TONES = {
    RunState.SUCCEEDED: "good",
    RunState.RELAYED: "good",
    RunState.FAILED: "bad",
    RunState.EXPIRED: "bad",
    RunState.NO_LEADER: "bad",
    RunState.RUNNING: "busy",
    RunState.FIRED: "busy",
    ScheduleState.ACTIVE: "good",
    ScheduleState.QUARANTINED: "bad",
    HandoverState.WAITING: "busy",
    HandoverState.DONE: "good",
    AnswerStatus.READY: "good",
    AnswerStatus.REFUSED: "bad",
}
_WORDS = {RunState.OTHER_FIRER: "other firer", RunState.NO_LEADER: "no leader"}


def instant(value: datetime | None, *, is_precise: bool = False) -> str:
    """`2030-01-31 06:00:00 UTC`, with milliseconds where `is_precise`. A dash for None."""
    if value is None:
        return NOTHING
    at = value.astimezone(UTC)
    return _time(at, f"{at:%Y-%m-%d}", f"{_clock(at, is_precise)} UTC")


def moment(value: datetime | None, beside: datetime | None = None) -> str:
    """UTC without saying so, for a list whose head says it; on the day of `beside` the time alone.

    To the millisecond, except an instant of its own that falls on a full second.
    """
    if value is None:
        return NOTHING
    at = value.astimezone(UTC)
    is_short = beside is not None and at.date() == beside.astimezone(UTC).date()
    clock = _clock(at, is_precise=beside is not None or at.microsecond > 0)
    return _time(at, clock) if is_short else _time(at, f"{at:%Y-%m-%d}", clock)


def _clock(at: datetime, is_precise: bool) -> str:
    return f"{at:%H:%M:%S}" + (f".{at.microsecond // 1000:03d}" if is_precise else "")


def _time(at: datetime, *parts: str) -> SafeString:
    """Parts that a narrow column may set below each other, but not break."""
    shown = format_html_join(" ", "<span>{}</span>", ((part,) for part in parts))
    return format_html('<time datetime="{}" class="db-instant">{}</time>', at.isoformat(), shown)


def wall(value: datetime, timezone: str, *, with_weekday: bool = False) -> str:
    """`value` on the wall clock of `timezone`, to the second; in UTC when the zone does not exist."""
    try:
        local = value.astimezone(ZoneInfo(timezone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        local = value.astimezone(UTC)
    name = local.tzname() or ""
    weekday = f"{local:%a} " if with_weekday else ""
    return f"{weekday}{local:%Y-%m-%d %H:%M:%S} {name if name.isalpha() else f'UTC{name}'}"


def badge(state: str) -> SafeString:
    """A state as a coloured word."""
    words = _WORDS.get(RunState(state), state) if state in set(RunState) else state
    return format_html('<span class="db-badge db-{}">{}</span>', _TONES.get(state, "calm"), words)  # type: ignore[call-overload]


def note(text: str) -> SafeString:
    """A remark beside something."""
    return format_html('<span class="db-note">{}</span>', text)


def pretty(value: object) -> SafeString:
    """JSON, indented; a dash for None."""
    if value is None:
        return NOTHING
    return format_html('<pre class="db-json">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))


def brief(value: object, limit: int = 80) -> str:
    """JSON on one line, cut off at `limit` characters; a dash for None."""
    if value is None:
        return NOTHING
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def outcome(result: object, error: object) -> str:
    """A run's result, or what its error says, on one line."""
    if isinstance(error, dict):
        return format_html('<span class="db-error">{}</span>', _one_line(error))
    return brief(result)


def _one_line(error: dict[str, object], limit: int = 120) -> str:
    text = ": ".join(str(error[key]) for key in ("type", "message") if error.get(key))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def shown_change(change: ScheduleChange) -> dict[str, Any]:
    """A note of a change, for the schedule's page: each field with its values before and after, as short JSON."""
    fields = [(field, _short(before), _short(after)) for field, (before, after) in change.fields.items()]
    return {
        "changed_at": moment(change.changed_at),
        "action": change.action,
        "actor": change.actor,
        "fields": fields,
    }


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
