"""What goes into a store of results, and what comes out."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from pg_queue.domain import Failure, Json, MessageState
from pg_queue.errors import ResultNotKept, ResultNotReady, TaskFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one execution ended a message: what a store is given to keep."""

    message_id: uuid.UUID
    state: MessageState
    """A terminal one."""
    attempts: int
    """Executions begun so far, this one included."""
    started_at: datetime
    """When this execution was claimed, by the queue's clock: orders the executions of a message."""
    value: Json = None
    error: Failure | None = None
    ttl: timedelta | None = None
    """Time to live from now on; None: as configured, zero: for ever."""
    namespace: str = ""
    """The tenant whose message it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What is known of a message's end."""

    message_id: uuid.UUID
    state: MessageState
    attempts: int
    """Executions begun so far."""
    finished_at: datetime | None = None
    """By the clock of where it is kept; None: it has no end yet."""
    value: Json = None
    """What its task returned; None also where that is not known: see `is_kept`."""
    error: Failure | None = None
    """Why the last execution failed; set on a waiting message too when it is being retried."""
    namespace: str = ""
    """The tenant whose message it is."""
    is_kept: bool = True
    """False for a value that was not to be kept, or is kept no more."""

    def value_or_raise(self) -> Json:
        """What the task returned.

        Raises: TaskFailed when it failed; ResultNotKept; ResultNotReady while the message has no end.
        """
        if self.state is MessageState.SUCCEEDED and self.is_kept:
            return self.value
        if self.state is MessageState.SUCCEEDED:
            raise ResultNotKept(f"message {self.message_id}: it succeeded, and what it returned is not kept")
        if self.state in {MessageState.WAITING, MessageState.RUNNING}:
            raise ResultNotReady(f"message {self.message_id}: expected one that has ended, got: {self.state}")
        error = self.error or Failure(type=f"message.{self.state}", message="no error was noted")
        raise TaskFailed(type=error.type, message=error.message, traceback=error.traceback)
