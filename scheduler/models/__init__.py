"""The scheduler's tables."""

from scheduler.models.beat import BeatCatch, BeatProcess, BeatSend, MirrorFailure
from scheduler.models.cutover import Handover
from scheduler.models.ledger import ScheduleChange, ScheduleRun
from scheduler.models.links import BeatLink, MirrorDrift
from scheduler.models.schedules import PgPeriodicSchedule

__all__ = [
    "BeatCatch",
    "BeatLink",
    "BeatProcess",
    "BeatSend",
    "Handover",
    "MirrorDrift",
    "MirrorFailure",
    "PgPeriodicSchedule",
    "ScheduleChange",
    "ScheduleRun",
]
