"""How far the hand-overs are that wait, and what to do about one that waits for long."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

from scheduler import clock
from scheduler.domain import Firer, HandoverMethod, Hold
from scheduler.models import BeatProcess, Handover, PgPeriodicSchedule
from scheduler.settings import scheduler_settings

_SLOW_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """A schedule in the middle of a hand-over."""

    handover: Handover
    hint: str
    """What to do about it; empty: nothing, it has not waited for long."""


def under_way(schedules: Iterable[PgPeriodicSchedule]) -> dict[UUID, UnderWay]:
    """Those of the schedules that are in the middle of a hand-over, by id. Reads only.

    At most three queries, however many there are; none where the rows say that they are in no hand-over.
    """
    ids = [row.pk for row in schedules if row.hold == Hold.HANDOVER or row.beat_from is not None]
    waiting = list(Handover.objects.using(_alias()).waiting().filter(schedule_id__in=ids)) if ids else []
    told = hints(waiting, BeatProcess.objects.using(_alias()).live()) if waiting else {}
    return {one.schedule_id: UnderWay(handover=one, hint=told.get(one.pk, "")) for one in waiting}


def hints(waiting: Collection[Handover], live: Collection[BeatProcess]) -> dict[int, str]:
    """By hand-over, what to do about those that have waited for long. `live`: the Beats that live."""
    now = clock.now(_alias())
    slow = [one for one in waiting if (now - one.requested_at).total_seconds() > _SLOW_SECONDS]
    return {one.pk: _hint(one, live) for one in slow}


def _hint(handover: Handover, live: Collection[BeatProcess]) -> str:
    if handover.to_firer == Firer.BEAT:
        return "PG has not decided yet what occurred before the instant: is a scheduler running?"
    if not live:
        return (
            "no Celery Beat lives that could say what it has sent: start it, `cutover rollback` to go back, or "
            "`cutover promote --beat-stopped` to go on without"
        )
    if handover.method == HandoverMethod.CLAIM:
        return "Celery Beat is about to send it, or its broker does not answer"
    return "Celery Beat has not loaded the change yet: is it busy, stopped, or is another one running?"


def _alias() -> str:
    return scheduler_settings().database
