"""The scheduler's tables."""

from scheduler.models.beat import BeatProcess, BeatSend, MirrorFailure
from scheduler.models.ledger import ScheduleChange, ScheduleRun
from scheduler.models.schedules import PgPeriodicSchedule

__all__ = ["BeatProcess", "BeatSend", "MirrorFailure", "PgPeriodicSchedule", "ScheduleChange", "ScheduleRun"]
