"""Schedules of Celery Beat become PG's: what would keep one from it, and the beginning of each hand-over.

A batch is one transaction. In it each schedule is held as every change of one that Beat fires holds it: Beat's row,
then the mirror. So no edit comes between, no tick shadows it, and what Beat sends meanwhile is recorded afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import OperationalError, connections, transaction

from pg_queue import api as queue
from scheduler import beat, changes, clock, following, validation
from scheduler.actor import current_actor
from scheduler.beat import canary, extras, mirror, rows
from scheduler.cutover import arrival, beats, evidence
from scheduler.cutover.answers import Answer, AnswerStatus
from scheduler.cutover.beats import Beats
from scheduler.cutover.choice import Choice, check_reason
from scheduler.cutover.evidence import Evidence
from scheduler.domain import Firer, HandoverMethod, Hold
from scheduler.errors import InvalidInput, SchedulerError
from scheduler.models import Handover, PgPeriodicSchedule
from scheduler.models.ledger import keep
from scheduler.settings import scheduler_settings

BATCH = 100
"""Most schedules of one transaction, and of one canary. Beat's own writes of their rows wait for it."""


def promote(
    choice: Choice, *, is_forced: bool = False, reason: str = "", is_beat_stopped: bool = False
) -> list[Answer]:
    """Have PG fire the schedules chosen, instead of Beat; an answer for each.

    Asks for `SCHEDULER["CLEAN_OCCURRENCES"]` clean occurrences of each, unless `is_forced`, which is kept with the
    hand-over as the `reason` is. One that is refused stops no other. `is_beat_stopped` says that no Beat runs; with it,
    hand-overs that wait for a Beat that is gone go on without.

    Opens and commits a transaction for each batch. A hand-over that has to wait is gone on with by any process that
    reaps (`complete_arrivals`).

    Raises:
        HandoverRefused: as things are, none can be handed over (`scheduler.cutover.beats`); nothing was changed.
        InvalidInput: field `reason`.
        ScheduleNotFound: a schedule that is named is not there.
        BeatUnavailable: django-celery-beat is not installed.
    """
    beat.require()
    check_reason(reason)
    schedules = choice.schedules()
    found = beats.look_around(is_beat_stopped=is_beat_stopped)
    known = evidence.gather(row for row in schedules if row.firer == Firer.BEAT)
    order = _Order(beats=found, is_forced=is_forced, reason=reason, evidence=known)
    return [answer for batch in _batches(schedules) for answer in _promote_batch(batch, order)]


def plan(choice: Choice, *, is_forced: bool = False) -> list[Answer]:
    """What `promote` would do, as far as it can be told beforehand. Reads only.

    Raises: ScheduleNotFound, BeatUnavailable, as `promote` does.
    """
    beat.require()
    schedules = choice.schedules()
    known = evidence.gather(row for row in schedules if row.firer == Firer.BEAT)
    return [_foresee(row, known.get(row.pk), is_forced) for row in schedules]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What holds for every schedule of a promotion."""

    beats: Beats
    is_forced: bool
    reason: str
    evidence: dict[UUID, Evidence]


def _promote_batch(batch: Sequence[PgPeriodicSchedule], order: _Order) -> list[Answer]:
    with transaction.atomic(using=_alias()):
        name = canary.new_name() if order.beats.method is HandoverMethod.CANARY else ""
        answers = [_promote(row, order, name) for row in batch]
        if name and any(answer.handover and answer.handover.canary == name for answer in answers):
            canary.plant(name)
        # Last, and once: whoever edits a row of Beat's takes the stamp after the row, too.
        if any(answer.handover is not None for answer in answers):
            rows.announce()
    return answers


def _promote(seen: PgPeriodicSchedule, order: _Order, canary_name: str) -> Answer:
    """Joins the batch's transaction. `seen` is as it was read before."""
    known = order.evidence.get(seen.pk)
    try:
        with mirror.bounded():
            if seen.firer != Firer.BEAT:
                return _go_on(seen, order) or _foresee(seen, known, order.is_forced)
            followed = following.follow(seen.pk)
            if followed is None:  # somebody else was quicker
                return _answer(seen, AnswerStatus.UNCHANGED, _OWNED)
            foreseen = _foresee(followed.row, known, order.is_forced)
            is_ready = foreseen.status is AnswerStatus.READY
            return _begin(followed.row, order, canary_name, known) if is_ready else foreseen
    except (SchedulerError, OperationalError) as error:  # such as a row that somebody else holds
        if not connections[_alias()].is_usable():
            raise  # what was done for the others of the batch is undone, too
        return _answer(seen, AnswerStatus.REFUSED, str(error).strip())


def _begin(row: PgPeriodicSchedule, order: _Order, canary_name: str, known: Evidence | None) -> Answer:
    """The row, and Beat's, are held."""
    task = rows.lock(row.beat_name)
    now = clock.now(_alias())
    before = copy.copy(row)
    row.firer, row.hold = Firer.PG.value, Hold.HANDOVER.value
    row.make_up_until, row.updated_at = None, now
    row.save(using=_alias(), force_update=True)
    rows.keep_disabled(row, announces=False)
    keep([note] if (note := changes.note_change("promote", before, row, now)) else [], using=_alias())
    handover = Handover(
        schedule_id=row.pk,
        beat_name=row.beat_name,
        organization_id=row.organization_id,
        to_firer=Firer.PG.value,
        method=order.beats.method.value,
        is_forced=order.is_forced and not (known is not None and known.is_enough),
        actor=current_actor(),
        reason=order.reason,
        evidence=known and known.as_json(),
        requested_at=now,
        canary=canary_name,
        process_id=order.beats.process_id,
        beat_run_count=0 if task is None else task.total_run_count,
    )
    handover.save(using=_alias(), force_insert=True)
    return _arrive_or_wait(row, handover)


def _arrive_or_wait(row: PgPeriodicSchedule, handover: Handover) -> Answer:
    """By claim, and without a Beat, there is mostly nothing to wait for."""
    if handover.method != HandoverMethod.CANARY and arrival.has_arrived(handover):
        arrival.arrive(row, handover, clock.now(_alias()))
        return _answer(row, AnswerStatus.DONE, handover=handover)
    return _answer(row, AnswerStatus.WAITING, handover=handover)


def _go_on(seen: PgPeriodicSchedule, order: _Order) -> Answer | None:
    """A hand-over that waits for a Beat which, as somebody says now, does not run; None: there is none."""
    if order.beats.method is not HandoverMethod.STOPPED:
        return None
    row = PgPeriodicSchedule.objects.using(_alias()).select_for_update().filter(pk=seen.pk).first()
    waiting = Handover.objects.using(_alias()).waiting().of_schedule(seen.pk).select_for_update().first()
    if row is None or waiting is None or waiting.to_firer != Firer.PG:
        return None
    waiting.method = HandoverMethod.STOPPED.value
    waiting.save(using=_alias())
    return _arrive_or_wait(row, waiting)


_OWNED = "PG fires it already"
_CELERYS = "Celery's own clean-up of its results: it stays with Celery Beat unless it is forced"


def _foresee(row: PgPeriodicSchedule, known: Evidence | None, is_forced: bool) -> Answer:
    """What would become of the row, as it is; its Beat is not looked at."""
    if row.beat_from is not None:
        reason = (
            f"it is on its way back to Celery Beat, which has it from {row.beat_from:%H:%M:%S} UTC on; ask again then"
        )
        return _answer(row, AnswerStatus.REFUSED, reason)
    if row.firer != Firer.BEAT:
        is_waiting = row.hold == Hold.HANDOVER
        return _answer(row, AnswerStatus.UNCHANGED, "it is being handed over" if is_waiting else _OWNED)
    if row.task == extras.CLEAN_UP and not is_forced:
        return _answer(row, AnswerStatus.UNCHANGED, _CELERYS)
    if reason := _why_impossible(row) or ("" if is_forced else _why_not(row, known)):
        return _answer(row, AnswerStatus.REFUSED, reason, evidence=known)
    return _answer(row, AnswerStatus.READY, evidence=known)


def _why_impossible(row: PgPeriodicSchedule) -> str:
    if row.quarantined_at is not None:
        return f"it cannot be evaluated: {row.quarantine_error}"
    try:
        validation.check(copy.copy(row))
        queue.check_queue(row.queue, row.priority)
    except (InvalidInput, queue.InvalidMessage) as error:
        return str(error)
    return ""


def _why_not(row: PgPeriodicSchedule, known: Evidence | None) -> str:
    """What a forced hand-over passes over."""
    try:
        queue.get_task(row.task)
    except queue.UnknownTask:
        return f"task: {row.task!r} is not registered in this project: its runs would fail"
    return "" if known is not None and known.is_enough else f"evidence: {known.sentence if known else 'none'}"


def _answer(
    row: PgPeriodicSchedule,
    status: AnswerStatus,
    reason: str = "",
    *,
    handover: Handover | None = None,
    evidence: Evidence | None = None,
) -> Answer:
    return Answer(
        schedule_id=row.pk, name=row.pipeline_name, status=status, reason=reason, handover=handover, evidence=evidence
    )


def _batches(schedules: list[PgPeriodicSchedule]) -> Iterator[list[PgPeriodicSchedule]]:
    for start in range(0, len(schedules), BATCH):
        yield schedules[start : start + BATCH]


def _alias() -> str:
    return scheduler_settings().database
