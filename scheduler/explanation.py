"""Why a schedule did, or did not, run at an instant: the occurrence meant, its state, and the reason in words.

Reads what is stored: the ledger's row of the occurrence or of the stretch that it lies in, what Celery Beat was seen to
send, and the notes of changes. Where there is no row, it is told from the schedule itself why there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Coalesce

from scheduler import clock, grid
from scheduler.domain import Firer, HandoverState, Hold, RunOrigin, RunState, ScheduleKind, SendState
from scheduler.errors import InvalidInput
from scheduler.models import BeatSend, Handover, PgPeriodicSchedule, ScheduleChange, ScheduleRun
from scheduler.recurrence import evaluate, period
from scheduler.runs import RunView, runs_with_live_state
from scheduler.schedules import get_schedule
from scheduler.settings import scheduler_settings

PLANNED, DUE, HELD, QUARANTINED = "planned", "due", "held", "quarantined"
NOT_EXPECTED, FORGOTTEN, UNKNOWN, SENT = "not_expected", "forgotten", "unknown", "sent"

_REASONS = {
    RunState.FIRED: "It was fired, and no worker has taken it yet.",
    RunState.RUNNING: "A worker is running it.",
    RunState.SUCCEEDED: "It ran and succeeded.",
    RunState.FAILED: "It ran, and its last attempt failed.",
    RunState.RELAYED: "The Celery broker that its queue is routed to has taken it; its end is not known here.",
    RunState.COALESCED: "It was missed, and the latest one missed with it was fired in the stead of all.",
    RunState.SKIPPED: "The run before had not ended, and the overlap policy says skip.",
    RunState.EXPIRED: "It was found due later than its catch-up window allows.",
    RunState.PAUSED: "The schedule was paused.",
    RunState.OTHER_FIRER: "The other firer owned it.",
    RunState.NO_LEADER: "No scheduler process was leading until its catch-up window had ended.",
}
_CADENCE = {"kind", "expression", "timezone", "dialect", "starts_at"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What became of one occurrence."""

    schedule_id: UUID
    at: datetime
    """The instant that was asked about."""
    occurrence: datetime | None
    """The latest occurrence at or before it, ahead of now the next one; None: there is none."""
    state: str
    """A run's state; without a row: planned, due, held, paused, quarantined, sent, other_firer, not_expected, forgotten
    or unknown."""
    reason: str
    run: RunView | None = None
    """The ledger's row, of the occurrence or of the stretch that it lies in."""
    sent_ats: tuple[datetime, ...] = ()
    """When Celery Beat sent it, by its own clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """An occurrence that has no row."""

    row: PgPeriodicSchedule
    at: datetime
    occurrence: datetime | None
    now: datetime
    sent_ats: tuple[datetime, ...]


def explain(schedule_id: UUID | str, at: datetime) -> Explanation:
    """Explain the latest occurrence at or before `at`, which is aware; ahead of now, the next one from `at` on.

    Raises:
        InvalidInput: field `at` (naive, or outside the years 1900 to 2999), or the schedule's row means nothing.
        ScheduleNotFound: no schedule has this id.
    """
    if at.utcoffset() is None:
        raise InvalidInput(field="at", expected="a datetime with a time zone (an aware one)", got=at)
    row, now = get_schedule(schedule_id), clock.now(_alias())
    if at > now:
        return _explain_ahead(row, at, now)
    occurrence, found = _interval_around(row, at) if row.kind == ScheduleKind.INTERVAL else _around(row, at)
    sent_ats = () if occurrence is None else _sends(row, occurrence)
    if found is not None:
        [view] = runs_with_live_state([found])
        reason = _told(view, len(sent_ats))
        return _explanation(row, at, occurrence, view.state.value, reason, view, sent_ats)
    case = _Case(row=row, at=at, occurrence=occurrence, now=now, sent_ats=sent_ats)
    state, reason = next(answer for rule in _RULES if (answer := rule(case)) is not None)
    return _explanation(row, at, occurrence, state, reason, None, sent_ats)


def _explain_ahead(row: PgPeriodicSchedule, at: datetime, now: datetime) -> Explanation:
    ahead = [one for one in grid.upcoming(row, 1000, now) if one >= at]
    if ahead:
        return _explanation(row, at, ahead[0], PLANNED, _whose_ahead(row, ahead[0]))
    if row.state == "active":
        return _explanation(row, at, None, PLANNED, "It is further ahead than the next 1000 occurrences.")
    reason = row.quarantine_error or row.pause_note or "no reason was given"
    reasons = {"ended": "The schedule has ended.", "paused": f"The schedule is paused: {reason}."}
    return _explanation(row, at, None, row.state.value, reasons.get(row.state.value, f"It is set aside: {reason}."))


def _whose_ahead(row: PgPeriodicSchedule, occurrence: datetime) -> str:
    if row.beat_from is not None and occurrence > row.beat_from:
        return f"It is ahead, and Celery Beat's: the schedule goes back to it at {_text(row.beat_from)}."
    if row.hold == Hold.HANDOVER:
        return "It is ahead. The schedule is being handed over: PG fires it, if Celery Beat does not before."
    return "It is ahead."


def _around(row: PgPeriodicSchedule, at: datetime) -> tuple[datetime | None, ScheduleRun | None]:
    occurrence = evaluate(grid.cadence_of(row), at).latest
    return occurrence, None if occurrence is None else _row_of(row, occurrence)


def _interval_around(row: PgPeriodicSchedule, at: datetime) -> tuple[datetime | None, ScheduleRun | None]:
    """An interval's grid is known by what was recorded: the latest row, if it is not a period or more old."""
    found = _row_of(row, at, is_exact=False)
    step = period(row.cron_string)
    if found is None:  # Beat never sent it: what the tick would have fired tells
        shadow = _row_of(row, at, is_exact=False, origin=RunOrigin.SHADOW)
        return (None if shadow is None else shadow.scheduled_for + (at - shadow.scheduled_for) // step * step), None
    last = found.span_end or found.scheduled_for
    if at - last >= step:
        return last + (at - last) // step * step, None
    return min(last, found.scheduled_for + (at - found.scheduled_for) // step * step), found


def _row_of(
    row: PgPeriodicSchedule, at: datetime, *, is_exact: bool = True, origin: RunOrigin = RunOrigin.SCHEDULE
) -> ScheduleRun | None:
    """The row whose occurrence or stretch holds `at`; not exact: the latest row that begins at or before it."""
    runs = ScheduleRun.objects.using(_alias()).of_schedule(row.pk).filter(origin=origin.value)
    runs = runs.filter(scheduled_for__lte=at)
    if is_exact:
        runs = runs.filter(Q(scheduled_for=at) | Q(span_end__gte=at))
    return runs.order_by("-scheduled_for").first()


def _sends(row: PgPeriodicSchedule, occurrence: datetime) -> tuple[datetime, ...]:
    sends = BeatSend.objects.using(_alias()).filter(schedule_id=row.pk, scheduled_for=occurrence)
    return tuple(sends.exclude(state__in=["refused", "failed"]).order_by("sent_at").values_list("sent_at", flat=True))


def _told(view: RunView, sends: int) -> str:
    reason = _REASONS[view.state]
    if view.firer is Firer.BEAT and view.state is RunState.FIRED:
        return "Celery Beat sent it." if sends < 2 else f"Celery Beat sent it {sends} times."
    if view.state is RunState.FIRED and view.relayed_at is not None:
        return f"The store that its queue is routed to took it at {_text(view.relayed_at)}, and has not told its end."
    if view.error and view.error.get("message"):
        reason += f" {view.error['message']}"
    return reason


def _was_never_expected(case: _Case) -> tuple[str, str] | None:
    row, occurrence = case.row, case.occurrence
    if occurrence is None:
        return NOT_EXPECTED, "The schedule has no occurrence at or before that instant."
    if occurrence < row.created_at:
        return NOT_EXPECTED, f"The schedule was created later, at {_text(row.created_at)}."
    if row.starts_at is not None and occurrence < row.starts_at:
        return NOT_EXPECTED, f"The schedule starts later, at {_text(row.starts_at)}."
    if row.ends_at is not None and occurrence >= row.ends_at:
        return NOT_EXPECTED, f"The schedule had ended at {_text(row.ends_at)}."
    has_run_out = row.run_limit is not None and row.run_count >= row.run_limit
    if has_run_out and row.last_run_at is not None and occurrence > row.last_run_at:
        runs = "its one run" if row.run_limit == 1 else f"its limit of {row.run_limit} runs"
        return NOT_EXPECTED, f"The schedule had had {runs} by then."
    return None


def _was_changed(case: _Case) -> tuple[str, str] | None:
    assert case.occurrence is not None
    notes = ScheduleChange.objects.using(_alias()).filter(schedule_id=case.row.pk, changed_at__gt=case.occurrence)
    for note in notes.order_by("changed_at"):
        if _CADENCE & note.fields.keys():
            by = f" by {note.actor}" if note.actor else ""
            changed = f"{_text(note.changed_at)}{by}"
            return NOT_EXPECTED, f"The schedule occurs so only since it was changed at {changed}."
    return None


def _is_held_back(case: _Case) -> tuple[str, str] | None:
    row, occurrence = case.row, case.occurrence
    assert occurrence is not None
    if row.quarantined_at is not None and row.quarantined_at <= case.now:
        return QUARANTINED, f"The schedule is set aside since {_text(row.quarantined_at)}: " + (row.quarantine_error)
    if not row.enabled and (row.paused_at is None or row.paused_at <= occurrence):
        return RunState.PAUSED.value, f"The schedule is paused: {row.pause_note or 'no reason was given'}."
    if row.hold == Hold.OVERLAP and row.next_run_at is not None and row.next_run_at <= occurrence:
        return HELD, "It waits for the end of the run before."
    return None


def _is_beats(case: _Case) -> tuple[str, str] | None:
    row, occurrence = case.row, case.occurrence
    assert occurrence is not None
    if case.sent_ats:
        return SENT, "Celery Beat sent it."
    if row.hold == Hold.HANDOVER and row.beat_from is None and not _has_sent_later(row, occurrence):
        return HELD, "The schedule is being handed over to PG, which fires it if Celery Beat turns out not to have."
    change = _next_change(row, occurrence)
    if change is None and row.firer == Firer.BEAT:
        return RunState.OTHER_FIRER.value, "Celery Beat fires the schedule, and was not seen to send it."
    is_made_up_for = row.hold is None and row.next_run_at is not None and row.next_run_at <= occurrence
    if change is not None and change.to_firer == Firer.PG and not is_made_up_for:
        until = f"until {_text(change.requested_at)}"
        return RunState.OTHER_FIRER.value, f"Celery Beat fired the schedule {until}, and was not seen to send it."
    if row.beat_from is not None and occurrence > row.beat_from:
        since = f"since {_text(row.beat_from)}"
        return RunState.OTHER_FIRER.value, f"It is Celery Beat's {since}, and Beat was not seen to send it."
    return None


def _has_sent_later(row: PgPeriodicSchedule, occurrence: datetime) -> bool:
    sends = BeatSend.objects.using(_alias()).filter(schedule_id=row.pk, scheduled_for__gt=occurrence)
    return sends.filter(state__in=[SendState.SENT.value, SendState.CLAIMED.value]).exists()


def _next_change(row: PgPeriodicSchedule, occurrence: datetime) -> Handover | None:
    """The first change of its firer after the occurrence; None: who fires it now fired it then."""
    changes = Handover.objects.using(_alias()).of_schedule(row.pk).exclude(state=HandoverState.CANCELLED.value)
    dated = changes.annotate(took_effect_at=Coalesce("beat_from", "requested_at"))
    return dated.filter(took_effect_at__gte=occurrence).order_by("took_effect_at").first()


def _is_due(case: _Case) -> tuple[str, str] | None:
    row, occurrence = case.row, case.occurrence
    assert occurrence is not None
    if row.next_run_at is None or row.next_run_at > occurrence:
        return None
    return DUE, "It is due and not decided yet: no scheduler is ticking, or its row is held by somebody."


def _is_forgotten(case: _Case) -> tuple[str, str]:
    assert case.occurrence is not None
    days = scheduler_settings().ledger_retention_days
    if case.now - case.occurrence > timedelta(days=days - 31):
        return FORGOTTEN, f"It is older than the ledger reaches for certain ({days} days)."
    return UNKNOWN, "Nothing is recorded of it: its row was changed by other means than these, or it was handed over."


_RULES: tuple[Callable[[_Case], tuple[str, str] | None], ...] = (
    _was_never_expected,
    _was_changed,
    _is_held_back,
    _is_beats,
    _is_due,
    _is_forgotten,
)
"""Asked in this order; the first that answers is right, and the last always does."""


def _explanation(
    row: PgPeriodicSchedule,
    at: datetime,
    occurrence: datetime | None,
    state: str,
    reason: str,
    run: RunView | None = None,
    sent_ats: tuple[datetime, ...] = (),
) -> Explanation:
    return Explanation(
        schedule_id=row.pk, at=at, occurrence=occurrence, state=state, reason=reason, run=run, sent_ats=sent_ats
    )


def _text(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def _alias() -> str:
    return scheduler_settings().database
