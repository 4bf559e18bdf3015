"""What a task may know of its execution, and say of it while it runs.

A pool that can pass it on sets `reporter` and `cancellation` around an execution, or once for all that a thread runs.
"""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from pg_queue.domain import Json, Message, Progress
from pg_queue.errors import GiveUp, InvalidMessage, RetryLater

MAX_STAGE_LENGTH = 200


Reporter = Callable[[Message, Progress], None]
"""Takes what an execution says of itself; called in the thread that runs it, as often as the task likes."""

reporter: ContextVar[Reporter | None] = ContextVar("pg_queue_reporter", default=None)
cancellation: ContextVar[Callable[[Message], bool] | None] = ContextVar("pg_queue_cancellation", default=None)
"""Tells whether the claim on a message is known to be lost: it was cancelled, or is somebody else's now."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """One execution, as its task sees it."""

    message: Message

    @property
    def id(self) -> uuid.UUID:
        """The message's id: the same on every attempt, and so an idempotency key towards other systems."""
        return self.message.id

    @property
    def task(self) -> str:
        """The task's name."""
        return self.message.task

    @property
    def queue(self) -> str:
        """The queue that the message came from."""
        return self.message.queue

    @property
    def attempt(self) -> int:
        """1 for the first execution."""
        return self.message.attempts

    @property
    def remaining_attempts(self) -> int:
        """Executions that are left after this one."""
        return max(0, self.message.max_attempts - self.message.attempts)

    @property
    def headers(self) -> dict[str, Json]:
        """What travels with the message."""
        return self.message.headers

    @property
    def organization_id(self) -> str:
        """Whose work it is; empty: nobody's in particular."""
        return self.message.organization_id

    def retry(self, *, countdown: float | timedelta | None = None, reason: str = "") -> NoReturn:
        """End this execution to be run again after `countdown` (seconds; None: the task's backoff).

        As long as attempts are left; then the message has failed. Called while an error is handled, the message's
        error names that one. Raises: RetryLater, which is to pass through.
        """
        delay = countdown.total_seconds() if isinstance(countdown, timedelta) else countdown
        raise RetryLater(reason, delay_seconds=delay) from sys.exc_info()[1]

    def fail(self, reason: str) -> NoReturn:
        """End this execution as failed, never to be run again. Raises: GiveUp, which is to pass through."""
        raise GiveUp(reason)

    def progress(self, done: float, total: float = 1, *, stage: str = "") -> None:
        """Say how far this execution is: `progress(0.4)` or `progress(40, 100, stage="loading")`.

        Costs no statement here, and may be called in a loop: the worker passes the latest on now and then. Does
        nothing where nobody listens. Raises: InvalidMessage naming `done`, `total` or `stage`.
        """
        if not _is_number(total) or total <= 0:
            raise InvalidMessage(field="total", expected="a number above 0", got=total)
        if not _is_number(done) or not 0 <= done <= total:
            raise InvalidMessage(field="done", expected=f"a number from 0 to {total:g}", got=done)
        if not _is_stage(stage):
            raise InvalidMessage(field="stage", expected=f"a text of 0 to {MAX_STAGE_LENGTH} characters", got=stage)
        if (report := reporter.get()) is not None:
            report(self.message, Progress(done=float(done), total=float(total), stage=stage))

    def is_cancelled(self) -> bool:
        """Whether this worker knows that the execution is for nothing: its message was cancelled, or its claim lost.

        For long loops where a task cannot be killed; a worker of processes kills it instead. Known from the next
        renewal on (`RENEW_SECONDS`). Costs no statement.
        """
        ask = cancellation.get()
        return ask is not None and ask(self.message)


def _is_stage(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_STAGE_LENGTH and "\x00" not in value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
