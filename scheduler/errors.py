"""Everything the scheduler raises on purpose. One tree, so that a caller can catch all of it by `SchedulerError`."""

from __future__ import annotations

from datetime import datetime

LONGEST_SHOWN = 200
"""How many characters of a refused value a message repeats."""


class SchedulerError(Exception):
    """The root of the scheduler's own errors."""


class InvalidInput(SchedulerError, ValueError):
    """A value was refused where it was written: nothing was stored.

    `field` names the argument or column, `expected` says what would be accepted, `got` is the refused value.
    """

    def __init__(self, *, field: str, expected: str, got: object) -> None:
        self.field = field
        self.expected = expected
        self.got = got
        shown = got.isoformat() if isinstance(got, datetime) else repr(got)
        shown = shown if len(shown) <= LONGEST_SHOWN else f"{shown[: LONGEST_SHOWN - 1]}…"
        super().__init__(f"{field}: expected {expected}, got: {shown}")


class ScheduleNotFound(SchedulerError, LookupError):
    """No schedule has this id."""

    def __init__(self, schedule_id: object) -> None:
        self.schedule_id = schedule_id
        super().__init__(f"schedule: expected the id of an existing schedule, got: {str(schedule_id)!r}")


class BeatUnavailable(SchedulerError):
    """Something of Celery Beat was asked for, and django-celery-beat is not installed, or the database is SQLite."""


class HandoverRefused(SchedulerError):
    """A schedule cannot be handed over, or back, as things are. The message says why, and what to do."""
