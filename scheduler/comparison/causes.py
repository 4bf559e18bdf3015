"""Names the cause of a difference, from what is known of Beat's processes, the schedule's changes and its rules. Pure.

A cause is claimed only where its circumstance is there. The rules by which Celery Beat occurs at other instants
(`scheduler.beat.differences`) come first, then what happened to Beat and to the schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from scheduler.beat.differences import Difference, explain
from scheduler.beat.evaluation import BeatSchedule
from scheduler.comparison.verdicts import Cause, Circumstance
from scheduler.domain import ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.recurrence import Cadence, period
from scheduler.recurrence.kinds import Crontab, kind_of

LATE = timedelta(seconds=5)
"""A send later than this after its occurrence is late: as long as Beat's longest sleep."""
RELOAD = timedelta(seconds=10)
"""How long after a change Beat may still act by what it had loaded."""
STARTING = timedelta(seconds=60)
"""How long after its start a Beat makes up for what it believes it missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A process of Celery Beat."""

    process_id: UUID
    started_at: datetime
    ended_at: datetime

    def is_alive(self, at: datetime) -> bool:
        """Whether it ran at that instant."""
        return self.started_at <= at <= self.ended_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known around one schedule."""

    cadence: Cadence
    beat: BeatSchedule | None
    """As Beat holds it; None: Beat cannot hold it."""
    lives: Sequence[Life]
    changes: Sequence[tuple[datetime, str]]
    """When it was changed, and by what action, earliest first."""
    unfired: Sequence[tuple[datetime, datetime]]
    """Stretches, ends included, that no shadow was recorded for."""

    def changed_before(self, at: datetime, *actions: str) -> bool:
        """Whether one of these actions (any, where none is named) was taken just before."""
        return any(
            timedelta(0) <= at - changed_at <= RELOAD and (not actions or action in actions)
            for changed_at, action in self.changes
        )

    def alive(self, at: datetime) -> list[Life]:
        """The Beats that ran then."""
        return [life for life in self.lives if life.is_alive(at)]


def why_not_sent(at: datetime, known: Circumstances) -> Cause:
    """Why Beat did not send an occurrence that the tick would have fired. There is always a reason: it is Beat's."""
    if rule := _rule(Difference(beat=None, ours=at), known):
        return rule
    if known.changed_before(at):
        return Circumstance.RELOAD_LAG
    if not known.alive(at):
        return Circumstance.BEAT_DOWN
    return Circumstance.LOST_SEND


def why_not_expected(at: datetime, sent_at: datetime, known: Circumstances) -> Cause | None:
    """Why Beat sent what the tick would not have fired; None: nothing known explains it."""
    if rule := _rule(Difference(beat=sent_at, ours=None), known):
        return rule
    if known.changed_before(sent_at, "resume", "create"):
        return Circumstance.RE_ENABLE_BURST
    if known.changed_before(sent_at):
        return Circumstance.RELOAD_LAG
    if sent_at - at > LATE and _is_foreign_hour(sent_at, known.cadence):
        return Circumstance.HOUR_WINDOW
    if any(first <= at <= last for first, last in known.unfired):
        return Circumstance.NO_SHADOW
    if _had_two_beats(sent_at, known):
        return Circumstance.TWO_BEATS
    return Circumstance.BEAT_STARTED if _has_just_started(at, sent_at, known) else None


def why_again(at: datetime, sends: Sequence[tuple[datetime, UUID]], known: Circumstances) -> Cause | None:
    """Why Beat sent one occurrence more than once; None: nothing known explains it."""
    (first_at, before), (sent_at, process_id) = sends[0], sends[-1]
    if rule := _rule(Difference(beat=sent_at, ours=None), known):
        return rule
    if sent_at - at > LATE and _is_foreign_hour(sent_at, known.cadence):
        return Circumstance.HOUR_WINDOW
    if known.changed_before(sent_at, "resume", "create"):
        return Circumstance.RE_ENABLE_BURST
    if process_id != before:
        return _why_two_processes((first_at, before), (sent_at, process_id), known)
    return Circumstance.RELOAD_LAG if known.changed_before(sent_at) else None


def _why_two_processes(
    before: tuple[datetime, UUID], after: tuple[datetime, UUID], known: Circumstances
) -> Cause | None:
    lives = {life.process_id: life for life in known.lives}
    (first_at, first_id), (sent_at, second_id) = before, after
    first, second = lives.get(first_id), lives.get(second_id)
    if (first is not None and first.is_alive(sent_at)) or (second is not None and second.is_alive(first_at)):
        return Circumstance.TWO_BEATS
    if second is not None and sent_at - second.started_at <= STARTING:
        return Circumstance.BEAT_RESTARTED
    return None


def _had_two_beats(sent_at: datetime, known: Circumstances) -> bool:
    """Whether an interval was sent by one of two Beats that ran within the period before: each counts from its own."""
    if known.cadence.kind is not ScheduleKind.INTERVAL:
        return False
    since = sent_at - period(known.cadence.expression) - RELOAD
    near = [life for life in known.lives if life.started_at <= sent_at and life.ended_at >= since]
    return any(one.is_alive(other.started_at) for one in near for other in near if one is not other)


def _has_just_started(at: datetime, sent_at: datetime, known: Circumstances) -> bool:
    """Whether an interval was sent first by a Beat that had started, or had loaded it, within a period before."""
    if known.cadence.kind is not ScheduleKind.INTERVAL:
        return False
    soon = period(known.cadence.expression) + RELOAD
    begun = [life.started_at for life in known.alive(at)]
    begun += [changed_at for changed_at, action in known.changes if action in {"create", "import"}]
    return any(timedelta(0) <= sent_at - began_at <= soon for began_at in begun)


def _rule(difference: Difference, known: Circumstances) -> Cause | None:
    if known.beat is None:
        return None
    start = min((life.started_at for life in known.lives), default=difference.beat or difference.ours)
    assert start is not None
    try:
        return explain(difference, known.beat, known.cadence, start)
    except InvalidInput:  # the row means nothing any more
        return None


def _is_foreign_hour(at: datetime, cadence: Cadence) -> bool:
    """Whether a crontab does not name the hour in which it was sent."""
    if cadence.kind is not ScheduleKind.CRONTAB:
        return False
    read = kind_of(cadence.kind).read(cadence.expression, cadence.timezone, cadence.dialect)
    assert isinstance(read, Crontab)
    return not read.pattern.hours >> at.astimezone(ZoneInfo(cadence.timezone)).hour & 1
