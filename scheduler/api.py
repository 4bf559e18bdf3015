"""The scheduler's public surface. Import from here; everything else may change."""

from scheduler.actor import acting_as
from scheduler.domain import CatchUp, CronDialect, Firer, Overlap, RunOrigin, RunState, ScheduleKind, ScheduleState
from scheduler.errors import BeatUnavailable, InvalidInput, ScheduleNotFound, SchedulerError
from scheduler.explanation import Explanation, explain
from scheduler.models import BeatCatch, MirrorFailure, PgPeriodicSchedule, ScheduleChange, ScheduleRun
from scheduler.preview import ClockChange, Preview, PreviewRow, preview, preview_of
from scheduler.recurrence import Cadence, next_occurrences, normalise
from scheduler.runs import RunView, runs_with_live_state
from scheduler.schedules import (
    create_schedule,
    delete_schedule,
    get_schedule,
    hold_schedule,
    last_changes,
    mirror_failures,
    next_run_at,
    pause_schedule,
    resume_schedule,
    run_schedule,
    upcoming,
    update_schedule,
)

__all__ = [
    "BeatCatch",
    "BeatUnavailable",
    "Cadence",
    "CatchUp",
    "ClockChange",
    "CronDialect",
    "Explanation",
    "Firer",
    "InvalidInput",
    "MirrorFailure",
    "Overlap",
    "PgPeriodicSchedule",
    "Preview",
    "PreviewRow",
    "RunOrigin",
    "RunState",
    "RunView",
    "ScheduleChange",
    "ScheduleKind",
    "ScheduleNotFound",
    "ScheduleRun",
    "ScheduleState",
    "SchedulerError",
    "acting_as",
    "create_schedule",
    "delete_schedule",
    "explain",
    "get_schedule",
    "hold_schedule",
    "last_changes",
    "mirror_failures",
    "next_occurrences",
    "next_run_at",
    "normalise",
    "pause_schedule",
    "preview",
    "preview_of",
    "resume_schedule",
    "run_schedule",
    "runs_with_live_state",
    "upcoming",
    "update_schedule",
]
