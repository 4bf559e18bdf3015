"""Django admin of schedules and runs. Every change goes through `scheduler.api`; runs are read-only.

A project that wants more (an organization picker, rows restricted by user) unregisters these and registers subclasses.
"""

from scheduler.admin.beat import BeatProcessAdmin, BeatSendAdmin
from scheduler.admin.handovers import HandoverAdmin
from scheduler.admin.mirror import BeatCatchAdmin, MirrorDriftAdmin, MirrorFailureAdmin
from scheduler.admin.runs import RunAdmin
from scheduler.admin.schedules import ScheduleAdmin

__all__ = [
    "BeatCatchAdmin",
    "BeatProcessAdmin",
    "BeatSendAdmin",
    "HandoverAdmin",
    "MirrorDriftAdmin",
    "MirrorFailureAdmin",
    "RunAdmin",
    "ScheduleAdmin",
]
