"""What schedules do by themselves, as duties of the reaper: a pause ends, or begins after failures.

Any number of processes may do them at once: each schedule is changed through the choke points, which look again at the
row that they hold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Now

from pg_queue.api import Duty
from scheduler import schedules
from scheduler.actor import acting_as
from scheduler.errors import SchedulerError
from scheduler.models import MirrorFailure, PgPeriodicSchedule
from scheduler.querysets import ScheduleQuerySet
from scheduler.settings import scheduler_settings

logger = logging.getLogger(__name__)

_BATCH = 100
_PATIENCE_SECONDS = 60
"""How long a schedule is left alone whose mirror row could not be written."""


def policy_duties() -> list[Duty]:
    """The duties, each once a second, so that what a pause held back is fired at most about that late."""
    return [
        Duty(name="resume_on_time", every_seconds=1, run=resume_on_time, batch=_BATCH),
        Duty(name="pause_failing", every_seconds=1, run=pause_failing, batch=_BATCH),
    ]


def resume_on_time() -> int:
    """Resume one batch of schedules whose pause has come to its end; how many were looked at.

    One that cannot be resumed (its row means nothing) stays paused, without an end, and its note says why.
    """
    over = PgPeriodicSchedule.objects.filter(enabled=False, paused_until__lte=Now())
    return _each(over.order_by("paused_until"), _resume)


def pause_failing() -> int:
    """Pause one batch of schedules that fail as often in a row as they may; how many were looked at."""
    failing = PgPeriodicSchedule.objects.filter(enabled=True, failures_in_a_row__gte=F("pause_after_failures"))
    return _each(failing, _pause)


def _each(wanted: ScheduleQuerySet, act: Callable[[UUID], None]) -> int:
    """But for those whose mirror could not be written just now: each try writes Beat's row anew."""
    alias = scheduler_settings().database
    since = Now() - timedelta(seconds=_PATIENCE_SECONDS)
    failed = MirrorFailure.objects.using(alias).unrepaired().filter(schedule_id=OuterRef("pk"), failed_at__gte=since)
    ids = list(wanted.using(alias).exclude(Exists(failed.order_by())).values_list("pk", flat=True)[:_BATCH])
    with acting_as("a duty of the reaper"):
        for schedule_id in ids:
            act(schedule_id)
    return len(ids)


def _resume(schedule_id: UUID) -> None:
    try:
        schedules.resume_on_time(schedule_id)
    except SchedulerError as error:
        logger.error("policy.not_resumed schedule=%s error=%s", schedule_id, error)
        schedules.pause_schedule(schedule_id, reason=f"not resumed: {error}"[:500])


def _pause(schedule_id: UUID) -> None:
    paused = schedules.pause_failing(schedule_id)
    logger.warning("policy.paused schedule=%s note=%r", schedule_id, paused.pause_note)
