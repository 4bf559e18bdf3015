"""What stands in for a Celery Beat where schedules are handed over."""

from __future__ import annotations

import uuid
from typing import Any

from django.utils import timezone

from scheduler import api
from scheduler.cutover import complete_arrivals


def beat_lives(mode: str = "observe", **columns: Any) -> api.BeatProcess:
    """A Celery Beat that has just given a sign of life."""
    return api.BeatProcess.objects.create(
        **{"host": "host", "process_id": 7, "scheduler": "module:Class", "mode": mode, **columns}
    )


def beat_sends_the_canary(beat: api.BeatProcess) -> None:
    """What every hand-over by canary waits for; then they are completed, as a duty does it."""
    now = timezone.now()
    for name in set(api.Handover.objects.waiting().values_list("canary", flat=True)):
        api.BeatSend.objects.create(
            process=beat, beat_name=name, message_id=str(uuid.uuid4()), sent_at=now, is_first=True, state="sent"
        )
    complete_arrivals()


def handover(schedule: api.PgPeriodicSchedule, **columns: Any) -> api.Handover:
    """A hand-over of the schedule to PG that is done, unless `columns` say otherwise."""
    done = {"state": "done", "ended_at": timezone.now(), "to_firer": "pg", "method": "canary"}
    return api.Handover.objects.create(
        schedule_id=schedule.pk,
        beat_name=schedule.beat_name,
        organization_id=schedule.organization_id,
        **done | columns,
    )
