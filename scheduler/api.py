"""The scheduler's public surface. Import from here; everything else may change."""

from scheduler.actor import acting_as
from scheduler.cutover import Answer as HandoverAnswer
from scheduler.cutover import AnswerStatus as HandoverStatus
from scheduler.cutover import CutoverStatus, UnderWay, bucket_of, chosen, promote, ramp, roll_back, under_way
from scheduler.cutover import plan as plan_promotion
from scheduler.cutover import status as cutover_status
from scheduler.domain import (
    BeatMode,
    CatchUp,
    CronDialect,
    Firer,
    Overlap,
    RunOrigin,
    RunState,
    ScheduleKind,
    ScheduleState,
    SendState,
)
from scheduler.embedded import EmbeddedScheduler
from scheduler.errors import BeatUnavailable, HandoverRefused, InvalidInput, ScheduleNotFound, SchedulerError
from scheduler.explanation import Explanation, explain
from scheduler.forecast import Forecast, Herd, find_herd, forecast
from scheduler.forecast import Scope as ForecastScope
from scheduler.models import (
    BeatCatch,
    BeatProcess,
    BeatSend,
    Handover,
    MirrorDrift,
    MirrorFailure,
    PgPeriodicSchedule,
    ScheduleChange,
    ScheduleRun,
)
from scheduler.preview import ClockChange, Preview, PreviewRow, preview, preview_of
from scheduler.reconciliation import open_drift
from scheduler.recurrence import Cadence, next_occurrences, normalise
from scheduler.runs import RunView, runs_with_live_state
from scheduler.schedules import (
    create_schedule,
    delete_schedule,
    get_schedule,
    hold_schedule,
    last_changes,
    live_beats,
    mirror_failures,
    next_run_at,
    pause_schedule,
    resume_schedule,
    run_schedule,
    unknown_sends,
    upcoming,
    update_schedule,
)

__all__ = [
    "BeatCatch",
    "BeatMode",
    "BeatProcess",
    "BeatSend",
    "BeatUnavailable",
    "Cadence",
    "CatchUp",
    "ClockChange",
    "CronDialect",
    "CutoverStatus",
    "EmbeddedScheduler",
    "Explanation",
    "Firer",
    "Forecast",
    "ForecastScope",
    "Handover",
    "HandoverAnswer",
    "HandoverRefused",
    "HandoverStatus",
    "Herd",
    "InvalidInput",
    "MirrorDrift",
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
    "SendState",
    "UnderWay",
    "acting_as",
    "bucket_of",
    "chosen",
    "create_schedule",
    "cutover_status",
    "delete_schedule",
    "explain",
    "find_herd",
    "forecast",
    "get_schedule",
    "hold_schedule",
    "last_changes",
    "live_beats",
    "mirror_failures",
    "next_occurrences",
    "next_run_at",
    "normalise",
    "open_drift",
    "pause_schedule",
    "plan_promotion",
    "preview",
    "preview_of",
    "promote",
    "ramp",
    "resume_schedule",
    "roll_back",
    "run_schedule",
    "runs_with_live_state",
    "under_way",
    "unknown_sends",
    "upcoming",
    "update_schedule",
]
