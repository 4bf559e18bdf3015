"""The scheduler's tables."""

from scheduler.models.beat import BeatCatch, BeatProcess, BeatSend, MirrorFailure
from scheduler.models.ledger import ScheduleChange, ScheduleRun
from scheduler.models.schedules import PgPeriodicSchedule

__all__ = [
    "BeatCatch",
    "BeatProcess",
    "BeatSend",
    "MirrorFailure",
    "PgPeriodicSchedule",
    "ScheduleChange",
    "ScheduleRun",
]
