"""Schedules of PG become Beat's again."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import OperationalError, connections, transaction

from scheduler import beat, changes, clock, grid, transitions
from scheduler.actor import current_actor
from scheduler.beat import mirror, rows
from scheduler.cutover import arrival, position
from scheduler.cutover.answers import Answer, AnswerStatus
from scheduler.cutover.choice import Choice, check_reason
from scheduler.domain import Firer, HandoverMethod, HandoverState, Hold, ScheduleKind
from scheduler.errors import HandoverRefused, SchedulerError
from scheduler.models import Handover, PgPeriodicSchedule
from scheduler.models.ledger import keep
from scheduler.recurrence import period
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

RELOAD = timedelta(seconds=10)
"""Within it every Beat that lives has loaded a change: it sleeps 5 s at most, and we announce later than any stamp."""
BATCH = 100


def roll_back(choice: Choice, *, reason: str = "") -> list[Answer]:
    """Have Beat fire the schedules chosen again; an answer for each. One that is refused stops no other.

    A choice that names no schedule leaves out those that were never handed over. PG fires what occurs within the next
    `RELOAD`, Beat what occurs after it. A transaction of its own for each; what has to wait is gone on with by any
    process that reaps (`complete_returns`). No Beat need live: what it does not send when it is its own is missed.

    Raises:
        InvalidInput: field `reason`.
        ScheduleNotFound: a schedule that is named is not there.
        BeatUnavailable: django-celery-beat is not installed.
    """
    beat.require()
    check_reason(reason)
    schedules = choice.schedules()
    if choice.schedule_ids is None:
        known = handed_over(schedules)
        schedules = [row for row in schedules if row.pk in known]
    return [_try(row, reason) for row in schedules]


def handed_over(schedules: Iterable[PgPeriodicSchedule]) -> set[UUID]:
    """Those of the schedules that came to PG by a hand-over."""
    found = Handover.objects.using(_alias()).filter(
        schedule_id__in=[row.pk for row in schedules], to_firer=Firer.PG.value
    )
    return set(found.exclude(state=HandoverState.CANCELLED.value).values_list("schedule_id", flat=True))


def complete_returns() -> int:
    """Complete one batch of hand-overs to Beat whose instant has come; how many.

    A transaction of its own for each. Safe in parallel.
    """
    with connections[_alias()].cursor() as cursor:
        cursor.execute(statements("cutover")["returned"], {"limit": BATCH})
        ids = [found[0] for found in cursor.fetchall()]
    return arrival.complete_each(ids, _complete)


def _try(seen: PgPeriodicSchedule, reason: str) -> Answer:
    if seen.firer == Firer.BEAT:
        return _answer(seen, AnswerStatus.UNCHANGED, "Celery Beat fires it already")
    try:
        with transaction.atomic(using=_alias()), mirror.bounded():
            return _roll_back(seen, reason)
    except (SchedulerError, OperationalError) as error:  # such as a row that somebody else holds
        if not connections[_alias()].is_usable():
            raise
        return _answer(seen, AnswerStatus.REFUSED, str(error).strip())


def _roll_back(seen: PgPeriodicSchedule, reason: str) -> Answer:
    row = PgPeriodicSchedule.objects.using(_alias()).select_for_update().filter(pk=seen.pk).first()
    if row is None:
        return _answer(seen, AnswerStatus.REFUSED, "it was just deleted")
    if row.firer == Firer.BEAT or row.beat_from is not None:
        return _answer(row, AnswerStatus.UNCHANGED, "it is on its way back to Celery Beat already")
    waiting = Handover.objects.using(_alias()).waiting().of_schedule(row.pk).select_for_update().first()
    now = clock.now(_alias())
    if waiting is not None:
        return _take_back(row, waiting, reason, now)
    handover = Handover(
        schedule_id=row.pk,
        beat_name=row.beat_name,
        organization_id=row.organization_id,
        to_firer=Firer.BEAT.value,
        method=HandoverMethod.RETURN.value,
        actor=current_actor(),
        reason=reason,
        requested_at=now,
    )
    _set_out(row, handover, now)
    return _answer(row, AnswerStatus.WAITING, handover=handover)


def _take_back(row: PgPeriodicSchedule, handover: Handover, reason: str, now: datetime) -> Answer:
    """A hand-over to PG that waits: PG has fired nothing, so Beat goes on where it is."""
    before, anchor = copy.copy(row), position.anchor(row, handover)
    _follow_sends(row, handover.requested_at)
    _make_beats(row, now)
    most = 1 if row.kind == ScheduleKind.CLOCKED else row.run_limit
    if most is not None and row.run_count >= most:
        _end(row, now)
    row.save(using=_alias(), force_update=True)
    rows.write(row, anchor=anchor)
    _note(before, row, now)
    arrival.end(handover, HandoverState.CANCELLED, now, f"rolled back by {current_actor() or 'somebody'}: {reason}")
    changes.wake_leader(row.pk)
    return _answer(row, AnswerStatus.CANCELLED, "Celery Beat fires it, as before", handover=handover)


def _end(row: PgPeriodicSchedule, now: datetime) -> None:
    """Beat has sent it as often as it may, and would have disabled its row: enabled, it would be sent again."""
    row.next_run_at = None
    row.enabled, row.paused_at, row.pause_note = False, now, "it has run, and is disabled in Celery Beat"


def _set_out(row: PgPeriodicSchedule, handover: Handover, now: datetime) -> None:
    """Choose the instant, and enable Beat's row from it on. Both rows are written, or none.

    Raises:
        InvalidInput: Beat cannot hold the schedule.
    """
    handover.beat_from = row.beat_from = now + RELOAD
    row.hold = None if row.hold == Hold.HANDOVER else row.hold
    row.updated_at = now
    row.save(using=_alias(), update_fields=("beat_from", "hold", "updated_at"))
    _enable(row, row.beat_from)
    handover.save(using=_alias())
    changes.wake_leader(row.pk)


def _enable(row: PgPeriodicSchedule, after: datetime) -> None:
    if row.quarantined_at is None:
        rows.write(row, anchor=grid.beat_anchor_after(row, after))
    elif not rows.enable(row.beat_name, after, is_enabled=row.enabled):
        raise HandoverRefused("it cannot be evaluated, and Celery Beat has no row of it: edit it first")


def _complete(handover_id: int) -> int:
    handover, row = arrival.hold_waiting(handover_id)
    if handover is None:
        return 0
    now = clock.now(_alias())
    if row is None or row.beat_from is None:
        arrival.end(handover, HandoverState.CANCELLED, now, "the schedule was deleted meanwhile")
    elif not _has_decided(row):
        return 0
    else:
        _arrive(row, handover, now)
    return 1


def _has_decided(row: PgPeriodicSchedule) -> bool:
    """Whether PG owes nothing up to the instant; the row is held now."""
    if row.hold == Hold.HANDOVER or row.next_run_at is None or not row.enabled or row.quarantined_at is not None:
        return True
    assert row.beat_from is not None
    return row.next_run_at > row.beat_from


def _arrive(row: PgPeriodicSchedule, handover: Handover, now: datetime) -> None:
    task = rows.lock(row.beat_name)
    is_left = row.enabled and row.next_run_at is not None
    if is_left and (task is None or not task.enabled):
        _set_out(row, handover, now)  # its only run was left out after all
        return
    assert row.beat_from is not None
    before, left_out = copy.copy(row), transitions.leave_quarantine(row, row.beat_from)
    _follow_sends(row, row.beat_from)
    _make_beats(row, now)
    row.save(using=_alias(), force_update=True)
    keep([left_out] if left_out else [], using=_alias())
    _note(before, row, now)
    handover.outcome = {"first": row.next_run_at and row.next_run_at.isoformat()}
    arrival.end(handover, HandoverState.DONE, now)
    changes.wake_leader(row.pk)


def _follow_sends(row: PgPeriodicSchedule, since: datetime) -> None:
    """What Beat has sent since the mirror stopped to follow it."""
    last = position.last_send(row.pk)
    if last is None or (row.last_run_at is not None and last.scheduled_for <= row.last_run_at):
        return
    row.run_count += position.sends_since(row, since, with_claims=False)
    row.last_run_at = max(filter(None, (row.last_run_at, last.scheduled_for)))
    if row.kind == ScheduleKind.INTERVAL and row.quarantined_at is None:
        ahead = last.sent_at + period(row.cron_string)
        row.next_run_at = None if grid.is_beyond_end(row, ahead) else ahead


def _make_beats(row: PgPeriodicSchedule, now: datetime) -> None:
    row.firer = Firer.BEAT.value
    row.beat_from = row.make_up_until = None
    row.hold = None if row.hold == Hold.HANDOVER else row.hold
    row.updated_at = now


def _note(before: PgPeriodicSchedule, row: PgPeriodicSchedule, now: datetime) -> None:
    note = changes.note_change("roll back", before, row, now)
    keep([note] if note else [], using=_alias())


def _answer(
    row: PgPeriodicSchedule, status: AnswerStatus, reason: str = "", *, handover: Handover | None = None
) -> Answer:
    name, to = row.pipeline_name, Firer.BEAT
    return Answer(schedule_id=row.pk, name=name, status=status, to=to, reason=reason, handover=handover)


def _alias() -> str:
    return scheduler_settings().database
