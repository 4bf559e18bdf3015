"""What schedules do by themselves, as duties of the reaper: a pause ends, or begins after failures.

Any number of processes may do them at once: each schedule is changed through the choke points, which look again at the
row that they hold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from django.db import connections

from pg_queue.api import Duty
from scheduler import schedules
from scheduler.actor import acting_as
from scheduler.errors import SchedulerError
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

logger = logging.getLogger(__name__)

_SQL = statements("policies")

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
    return _each("resumable", _resume)


def pause_failing() -> int:
    """Pause one batch of schedules that fail as often in a row as they may; how many were looked at."""
    return _each("failing", _pause)


def _each(which: str, act: Callable[[UUID], None]) -> int:
    with connections[scheduler_settings().database].cursor() as cursor:
        cursor.execute(_SQL[which], {"limit": _BATCH, "patience_seconds": _PATIENCE_SECONDS})
        ids = [row[0] for row in cursor.fetchall()]
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
