"""Judges the occurrences of one schedule, one by one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from scheduler.comparison import causes
from scheduler.comparison.causes import Circumstances
from scheduler.comparison.verdicts import Cause, Circumstance, Finding, Verdict
from scheduler.domain import ScheduleKind
from scheduler.recurrence import period

_DRIFT = timedelta(seconds=1)
"""Occurrences of an interval that are closer than this, one of each side, are one and the same."""
_ON_TIME = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True)
class Sides:
    """One occurrence as the two sides have it."""

    schedule_id: UUID
    scheduled_for: datetime
    is_expected: bool
    """The shadow would have fired it."""
    is_pgs: bool
    """PG has fired it."""
    sent_ats: tuple[datetime, ...]
    process_ids: tuple[UUID, ...]
    is_overtaken: bool = False
    """Beat sent it one period after its last send, and no shadow has it."""


def judge_all(occurrences: Iterable[Sides], known: Circumstances) -> Iterator[Finding]:
    """A finding for each occurrence of one schedule, given earliest first.

    Beat's interval counts from its own last send, the tick's from what it has seen of that: an occurrence of one side
    without the other is paired with a close one of the other side before it is judged.
    """
    drift = _drift_of(known)
    waiting: Sides | None = None
    last_sent_at: datetime | None = None
    for one in occurrences:
        if _is_overtaken(one, last_sent_at, known):
            one = replace(one, is_overtaken=True)
        last_sent_at = one.sent_ats[-1] if one.sent_ats else last_sent_at
        if waiting is not None and _is_pair(waiting, one, drift):
            yield _judge_drift(waiting, one)
            waiting = None
            continue
        if waiting is not None:
            yield judge(waiting, known)
        waiting = one
    if waiting is not None:
        yield judge(waiting, known)


def judge(one: Sides, known: Circumstances) -> Finding:
    """The finding on one occurrence."""
    if not one.sent_ats:
        return _finding(one, Verdict.SEMANTICS, causes.why_not_sent(one.scheduled_for, known))
    if one.is_pgs:
        return _finding(one, Verdict.DUPLICATE, Circumstance.BOTH_FIRERS)
    if len(one.sent_ats) > 1:
        sends = list(zip(one.sent_ats, one.process_ids, strict=True))
        return _finding(one, Verdict.DUPLICATE, causes.why_again(one.scheduled_for, sends, known))
    [sent_at] = one.sent_ats
    if one.is_overtaken:
        return _finding(one, Verdict.SEMANTICS, Circumstance.OVERTAKEN)
    if not one.is_expected:
        cause = causes.why_not_expected(one.scheduled_for, sent_at, known)
        return _finding(one, Verdict.SEMANTICS if cause else Verdict.BEAT_ONLY, cause)
    if sent_at - one.scheduled_for > causes.LATE:
        return _finding(one, Verdict.SEMANTICS, Circumstance.LATE)
    return _finding(one, Verdict.MATCH, None)


def _is_overtaken(one: Sides, last_sent_at: datetime | None, known: Circumstances) -> bool:
    if known.cadence.kind is not ScheduleKind.INTERVAL or one.is_expected or len(one.sent_ats) != 1:
        return False
    is_told = any(first <= one.scheduled_for <= last for first, last in known.unfired)
    return (
        not is_told
        and last_sent_at is not None
        and one.scheduled_for - last_sent_at == period(known.cadence.expression)
    )


def _is_pair(first: Sides, second: Sides, drift: timedelta) -> bool:
    is_crossed = first.is_expected != second.is_expected and bool(first.sent_ats) != bool(second.sent_ats)
    return is_crossed and second.scheduled_for - first.scheduled_for <= drift


def _judge_drift(first: Sides, second: Sides) -> Finding:
    expected, sent = (first, second) if first.is_expected else (second, first)
    joined = replace(expected, sent_ats=sent.sent_ats, process_ids=sent.process_ids)
    is_close = second.scheduled_for - first.scheduled_for <= _ON_TIME
    return _finding(joined, Verdict.MATCH if is_close else Verdict.DRIFT, None)


def _drift_of(known: Circumstances) -> timedelta:
    if known.cadence.kind is not ScheduleKind.INTERVAL:
        return timedelta(0)
    return min(_DRIFT, period(known.cadence.expression) / 2)


def _finding(one: Sides, verdict: Verdict, cause: Cause | None) -> Finding:
    late = (one.sent_ats[0] - one.scheduled_for).total_seconds() if one.sent_ats else None
    return Finding(
        schedule_id=one.schedule_id,
        scheduled_for=one.scheduled_for,
        verdict=verdict,
        cause=cause,
        sent_ats=one.sent_ats,
        late_seconds=late,
    )
