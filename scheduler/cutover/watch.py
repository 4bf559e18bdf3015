"""What was handed over and does badly goes back to Celery Beat by itself."""

from __future__ import annotations

import logging
from uuid import UUID

from django.db import connections
from prometheus_client import Counter

from pg_queue.api import METRICS
from scheduler import beat
from scheduler.actor import acting_as
from scheduler.cutover.answers import AnswerStatus
from scheduler.cutover.choice import Choice
from scheduler.cutover.returning import roll_back
from scheduler.errors import ScheduleNotFound
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

logger = logging.getLogger(__name__)

BATCH = 100
ROLL_BACKS = Counter(
    "downbeat_automatic_roll_backs",
    "Schedules that misbehaved after their hand-over and go back to Celery Beat by themselves.",
    registry=METRICS,
)
_WHY = {
    "quarantined": "the tick cannot evaluate it",
    "failing": "all its runs since have failed ({failed})",
    "sent": "Celery Beat goes on sending it",
}


def roll_back_misbehaving() -> int:
    """Roll back one batch of schedules that misbehave since they were handed over; how many were.

    Looked at are those handed over in the last `SCHEDULER["PROBATION_HOURS"]`: quarantined since, without a run that
    succeeded and with `PROBATION_FAILURES` that failed, or still sent by Beat. A transaction of its own for each.
    """
    if not beat.is_installed():
        return 0
    conf = scheduler_settings()
    parameters = {"failures": conf.probation_failures, "hours": conf.probation_hours, "limit": BATCH}
    with connections[conf.database].cursor() as cursor:
        cursor.execute(statements("cutover")["misbehaving"], parameters)
        found = cursor.fetchall()
    with acting_as("a duty of the reaper"):
        return sum(_roll_back(schedule_id, _WHY[why].format(failed=failed)) for schedule_id, why, failed in found)


def _roll_back(schedule_id: UUID, why: str) -> bool:
    try:
        [answer] = roll_back(Choice(schedule_ids=(schedule_id,)), reason=f"by itself: {why}")
    except ScheduleNotFound:  # deleted meanwhile
        return False
    if answer.status is AnswerStatus.WAITING:
        ROLL_BACKS.inc()
        logger.warning("cutover.rolled_back schedule=%s name=%r why=%r", schedule_id, answer.name, why)
        return True
    logger.error("cutover.not_rolled_back schedule=%s why=%r error=%r", schedule_id, why, answer.reason)
    return False
