"""The choke points: every schedule is created, changed, run and deleted here, by REST, admin, commands and code alike.

Each validates first, then opens one transaction (or joins the caller's as a savepoint): the primary row is held and
written, then the other side. While PG fires the schedule, its PG row and Beat's disabled row succeed or fail together.
While Beat fires it, Beat's row is the primary one and ours is mirrored best effort: a failure there is recorded (see
`scheduler.beat.mirror`), and the schedule that is returned is what the mirror should hold.

The leader hears of a change when it commits.
"""

from __future__ import annotations

import copy
import sqlite3
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.timezone import now as process_clock
from psycopg.errors import UniqueViolation

from pg_queue import api as queue
from scheduler import beat, changes, clock, grid, ownership, transitions, validation
from scheduler.beat import links, mirror, rows
from scheduler.domain import REPORT_TO, Firer, HandoverState, RunOrigin, RunState
from scheduler.errors import InvalidInput, ScheduleNotFound
from scheduler.models import (
    BeatProcess,
    BeatSend,
    Handover,
    MirrorFailure,
    PgPeriodicSchedule,
    ScheduleChange,
    ScheduleRun,
)
from scheduler.models.ledger import keep
from scheduler.querysets import BeatProcessQuerySet, BeatSendQuerySet, MirrorFailureQuerySet
from scheduler.settings import scheduler_settings

_UNIQUE_BY_ID = {"scheduler_pgperiodicschedule", "django_celery_beat_periodictask"}

Change = Callable[[PgPeriodicSchedule, datetime], ScheduleRun | None]


def create_schedule(
    *,
    name: str,
    task: str,
    expression: str,
    kind: str = "crontab",
    timezone: str = "UTC",
    dialect: str = "unix",
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    queue: str = "default",
    priority: int = 5,
    organization_id: str = "default",
    workflow_id: str | None = None,
    firer: str | None = None,
    enabled: bool = True,
    pause_note: str = "",
    paused_until: datetime | None = None,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    grace_seconds: int | None = None,
    catch_up: str = "latest",
    overlap: str = "allow",
    jitter_seconds: int = 0,
    run_limit: int | None = None,
    pause_after_failures: int | None = None,
    max_attempts: int | None = None,
    schedule_id: uuid.UUID | str | None = None,
) -> PgPeriodicSchedule:
    """Create a schedule that fires at its first match after now, never at once; an interval one period from now.

    `expression` is what its `kind` writes (crontab, interval, clocked, solar: `scheduler.recurrence`). It occurs at
    or after `starts_at` and before `ends_at`; an interval with a later start begins with it. `firer` None:
    `SCHEDULER["DEFAULT_FIRER"]`. `grace_seconds` None: `SCHEDULER["GRACE_SECONDS"]`. `max_attempts` None: the task's
    own. `priority` from 1 (last) to 10 (first). `catch_up` and `overlap` as `scheduler.domain` names them.
    `jitter_seconds`: its runs begin up to so much later than their occurrences. `run_limit`: it ends when it was fired
    so often; 1 is a one-off. `pause_after_failures`: it is paused when so many of its runs have failed in a row.
    `paused_until`: with `enabled` False, when it resumes by itself. `schedule_id` None: a new one.

    Raises:
        InvalidInput: a field is refused, or `schedule_id` is taken; nothing is stored.
        BeatUnavailable: `firer` is beat, and django-celery-beat is not installed.
    """
    values = {field: value for field, value in locals().items() if field != "schedule_id"}
    row = PgPeriodicSchedule(pipeline_id=uuid.uuid4() if schedule_id is None else validation.schedule_id(schedule_id))
    row.beat_name = str(row.pipeline_id)
    validation.fill(row, validation.clean(values))
    if row.firer == Firer.BEAT:
        beat.require()
        rows.require_expressible(row)
    with _transaction():
        _refuse_taken(row)
        now = clock.now(_alias())
        transitions.begin(row, now)
        try:
            _insert(row, now)
        except IntegrityError as error:
            if not _is_taken(error):
                raise
            raise _taken(row) from error
        changes.wake_leader(row.pipeline_id)
    return row


def update_schedule(schedule_id: uuid.UUID | str, **changes: Any) -> PgPeriodicSchedule:
    """Change fields, named as `create_schedule` names them.

    A change of expression, kind, timezone, dialect or start makes it fire next at its first match after now; any other
    leaves the next occurrence alone, but for an end that cuts it off. `enabled` pauses or resumes. `firer` cannot
    change. Lifts a quarantine.

    Raises:
        InvalidInput: a field is unknown or refused; nothing is changed.
        ScheduleNotFound: no schedule has this id.
    """
    cleaned = validation.clean(changes)
    return _change(schedule_id, "update", lambda row, now: transitions.edit(row, cleaned, now), given=cleaned.keys())


def pause_schedule(
    schedule_id: uuid.UUID | str, *, reason: str = "", until: datetime | None = None
) -> PgPeriodicSchedule:
    """Fire nothing from now on, until it is resumed: by somebody, or by itself at `until`.

    The ledger says what was due and not fired yet. Pausing again changes the reason and the end.

    Raises:
        InvalidInput: field `pause_note` (longer than 500 characters) or `paused_until` (naive, or not ahead).
        ScheduleNotFound: no schedule has this id.
    """
    cleaned = validation.clean({"pause_note": reason, "paused_until": until})
    return _change(
        schedule_id,
        "pause",
        lambda row, now: transitions.pause(row, cleaned["pause_note"], now, cleaned["paused_until"]),
    )


def resume_schedule(schedule_id: uuid.UUID | str) -> PgPeriodicSchedule:
    """Fire again, at the next match after now; the ledger says what was missed meanwhile. Lifts a quarantine.

    Raises:
        InvalidInput: it is quarantined and still cannot be evaluated.
        ScheduleNotFound: no schedule has this id.
    """
    return _change(schedule_id, "resume", transitions.resume)


def resume_on_time(schedule_id: uuid.UUID) -> PgPeriodicSchedule:
    """End a pause whose `paused_until` has come; nothing happens where it has not. Raises as `resume_schedule` does."""
    return _change(schedule_id, "resume", transitions.resume_on_time)


def pause_failing(schedule_id: uuid.UUID) -> PgPeriodicSchedule:
    """Pause it where so many of its runs have failed in a row as it bears. Raises: ScheduleNotFound."""
    return _change(schedule_id, "pause", transitions.pause_failing)


def delete_schedule(schedule_id: uuid.UUID | str) -> None:
    """Delete the schedule and its Beat row. Its runs stay in the ledger, and what was enqueued is still executed.

    Raises:
        ScheduleNotFound: no schedule has this id.
    """
    identity = _identify(schedule_id)
    with _transaction():
        held = ownership.hold(identity, is_orphan_enough=True)
        now = clock.now(_alias())
        note = changes.note_event("delete", held.row, now)
        if held.row.firer == Firer.BEAT:
            rows.remove(held.row.beat_name)
            mirror.erase(_subject(held.row, "delete"), [note], held.mirror_error)
        else:
            _record(transitions.end(held.row, now), note)
            rows.remove(held.row.beat_name)
            PgPeriodicSchedule.objects.using(_alias()).filter(pk=identity).delete()
        links.forget(identity)
        _cancel_handover(identity, now)
        changes.wake_leader(identity)


def _cancel_handover(schedule_id: uuid.UUID, now: datetime) -> None:
    why = {"why": "the schedule was deleted meanwhile"}
    waiting = Handover.objects.using(_alias()).of_schedule(schedule_id).filter(state=HandoverState.WAITING.value)
    waiting.update(state=HandoverState.CANCELLED.value, ended_at=now, outcome=why)


def run_schedule(schedule_id: uuid.UUID | str) -> ScheduleRun:
    """Run it once, now, whether it is paused or not: a manual run and its message, in one transaction.

    The schedule's own occurrences are not touched. The message goes to the queue here, or to where that is routed,
    whoever fires the schedule.

    Raises:
        InvalidInput: its task is not registered any more, or no message can hold what is stored.
        ScheduleNotFound: no schedule has this id, or its mirror row is missing.
    """
    with _transaction():
        row = get_schedule(schedule_id)
        now = clock.now(_alias())
        run = ScheduleRun(
            id=_enqueue(row, now),
            schedule_id=row.pipeline_id,
            organization_id=row.organization_id,
            scheduled_for=now,
            occurrences=1,
            origin=RunOrigin.MANUAL.value,
            firer=Firer.PG.value,
            state=RunState.FIRED.value,
            fired_at=now,
            recorded_at=now,
        )
        run.save(using=_alias(), force_insert=True)
    return run


def get_schedule(schedule_id: uuid.UUID | str) -> PgPeriodicSchedule:
    """The schedule as stored. Raises `InvalidInput` (no UUID) or `ScheduleNotFound`."""
    found = PgPeriodicSchedule.objects.using(_alias()).filter(pk=_identify(schedule_id)).first()
    if found is None:
        raise ScheduleNotFound(schedule_id)
    return found


def hold_schedule(schedule_id: uuid.UUID | str) -> PgPeriodicSchedule | None:
    """Hold the schedule until the caller's transaction ends, as every change does first; None: there is none.

    For a caller whose own rows follow a schedule's: who holds the schedule before them cannot deadlock with a change.
    Joins the caller's transaction, which must be one.

    Raises:
        InvalidInput: `schedule_id` is no UUID.
        BeatUnavailable: Beat fires it, and django-celery-beat is not installed.
    """
    try:
        return ownership.hold(_identify(schedule_id)).row
    except ScheduleNotFound:
        return None


def upcoming(schedule: PgPeriodicSchedule, count: int) -> list[datetime]:
    """At most `count` (1 to 1000) occurrences ahead of now, earliest first.

    Empty while it is paused, quarantined or ended. An interval goes on along its own grid.

    Raises:
        InvalidInput: field `count`, or the row cannot be evaluated.
    """
    return grid.upcoming(schedule, validation.occurrence_count(count), clock.now(_alias()))


def next_run_at(schedule: PgPeriodicSchedule, *, now: datetime | None = None) -> datetime | None:
    """The next occurrence as people are to see it; its column is what the engine has to decide next.

    The two differ while Beat fires the schedule: only the shadow advances the column then, while a leader ticks, so
    this is the first occurrence after `now`. `now` None: by this process's clock, because nothing is decided by it.
    None: no occurrence is left.
    """
    return grid.shown_next_run_at(schedule, now or process_clock())


def last_changes(schedule_id: uuid.UUID | str, count: int) -> list[ScheduleChange]:
    """At most `count` notes of who changed a schedule, also after it was deleted, the latest first."""
    notes = ScheduleChange.objects.using(_alias()).filter(schedule_id=_identify(schedule_id))
    return list(notes.order_by("-changed_at", "-id")[:count])


def mirror_failures() -> MirrorFailureQuerySet:
    """The mirror writes that failed and that no later write has made good, the latest first."""
    return MirrorFailure.objects.using(_alias()).unrepaired()


def live_beats() -> BeatProcessQuerySet:
    """The processes of Celery Beat that observe themselves and live: a sign of life within 10 s, and not stopped.

    More than one fire everything twice, unless they gate. One without our app in its INSTALLED_APPS is not seen.
    """
    return BeatProcess.objects.using(_alias()).live()


def unknown_sends() -> BeatSendQuerySet:
    """The claims of Beat processes that are gone of which nobody knows whether they were published, the latest first.

    Their occurrences stay taken. Look at what the task has done; if it has not run, `run_schedule` runs it once.
    """
    return BeatSend.objects.using(_alias()).unknown()


def _change(schedule_id: uuid.UUID | str, path: str, change: Change, given: Collection[str] = ()) -> PgPeriodicSchedule:
    """`given` names the fields that the change sets."""
    identity = _identify(schedule_id)
    with _transaction():
        held = ownership.hold(identity)
        row, before = held.row, copy.copy(held.row)
        now = clock.now(_alias())
        left_out = change(row, now)
        row.updated_at = now
        note = changes.note_change(path, before, row, now)
        if row.firer == Firer.BEAT:
            restarts = row.enabled and not (before.enabled and transitions.is_same_cadence(row, before))
            rows.write(row, anchor=grid.beat_anchor(row, now) if restarts else None, given=given)
            mirror.write(_subject(row, path), row, _present(left_out, note), held.mirror_error)
        else:
            row.save(using=_alias(), force_update=True)
            _keep_beats_row(row, before, now, given)
            _record(left_out, note)
        changes.wake_leader(identity)
    return row


def _keep_beats_row(row: PgPeriodicSchedule, before: PgPeriodicSchedule, now: datetime, given: Collection[str]) -> None:
    """Beat's row of a schedule that PG fires: disabled; of one that goes back to Beat, as Beat is to have it."""
    if row.beat_from is None:
        rows.keep_disabled(row)
        return
    restarts = row.enabled and not (before.enabled and transitions.is_same_cadence(row, before))
    anchor = grid.beat_anchor_after(row, max(row.beat_from, now)) if restarts else None
    rows.write(row, anchor=anchor, given=given)


def _insert(row: PgPeriodicSchedule, now: datetime) -> None:
    note = changes.note_event("create", row, now)
    if row.firer == Firer.BEAT:
        rows.write(row, anchor=grid.beat_anchor(row, now))
        mirror.write(_subject(row, "create"), row, [note])
    else:
        row.save(using=_alias(), force_insert=True)
        rows.keep_disabled(row)
        _record(note)


def _refuse_taken(row: PgPeriodicSchedule) -> None:
    existing, _ = mirror.read(PgPeriodicSchedule.objects.using(_alias()).filter(pk=row.pk).first)
    if existing is not None or (beat.is_installed() and rows.lock(row.beat_name) is not None):
        raise _taken(row)


def _taken(row: PgPeriodicSchedule) -> InvalidInput:
    return InvalidInput(field="schedule_id", expected="an id that no schedule has yet", got=str(row.pk))


def _is_taken(error: IntegrityError) -> bool:
    """Another transaction has just created a schedule, or Beat's row, of this id: both tables' only unique columns."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.IntegrityError):
        return cause.sqlite_errorname in ("SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE")
    return isinstance(cause, UniqueViolation) and cause.diag.table_name in _UNIQUE_BY_ID


def _enqueue(row: PgPeriodicSchedule, now: datetime) -> uuid.UUID:
    try:
        message = queue.NewMessage(
            task=row.task,
            args=row.args,
            kwargs=row.kwargs,
            queue=row.queue,
            priority=row.priority,
            max_attempts=row.max_attempts,
            headers={"schedule_id": str(row.pipeline_id), "scheduled_for": now.isoformat()},
            organization_id=row.organization_id,
            report_to=REPORT_TO,
        )
        return queue.dispatch(message)
    except queue.UnknownTask as error:
        raise InvalidInput(field="task", expected="the name of a registered task", got=row.task) from error
    except queue.InvalidMessage as error:  # stored by other means than these
        raise validation.refused(error) from error


def _record(*kept: ScheduleRun | ScheduleChange | None) -> None:
    keep(_present(*kept), using=_alias())


def _present(*kept: ScheduleRun | ScheduleChange | None) -> list[ScheduleRun | ScheduleChange]:
    return [row for row in kept if row is not None]


def _subject(row: PgPeriodicSchedule, path: str) -> mirror.Subject:
    return mirror.Subject(schedule_id=row.pipeline_id, beat_name=row.beat_name, path=path)


def _identify(schedule_id: uuid.UUID | str) -> uuid.UUID:
    return validation.schedule_id(schedule_id)


def _transaction() -> AbstractContextManager[None]:
    return transaction.atomic(using=_alias())


def _alias() -> str:
    return scheduler_settings().database
