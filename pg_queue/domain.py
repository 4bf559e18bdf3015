"""The queue's words as types: messages, claims, outcomes. No Django, no I/O, no driver."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

Json = Any
"""A value that `json.dumps` takes: None, bool, int, finite float, str, list, dict with str keys."""

DEFAULT_PRIORITY = 5
MIN_PRIORITY, MAX_PRIORITY = 1, 10


class MessageState(StrEnum):
    """A message's life. The last three are terminal: nothing leaves them."""

    WAITING = "waiting"
    """Enqueued; due now, or delayed until `run_after`, or waiting for its next attempt."""
    RUNNING = "running"
    """A worker holds a claim on it."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Its last permitted attempt failed; a dead letter keeps it for replay."""
    CANCELLED = "cancelled"


TERMINAL_STATES = frozenset({MessageState.SUCCEEDED, MessageState.FAILED, MessageState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """One unit of work to enqueue."""

    task: str
    """Registered name of the task to run."""
    args: Sequence[Json] = ()
    kwargs: Mapping[str, Json] = field(default_factory=dict)
    queue: str = "default"
    priority: int = DEFAULT_PRIORITY
    """1 (last) to 10 (first)."""
    run_after: datetime | None = None
    """Aware instant before which it is not claimed; None: at once."""
    max_attempts: int | None = None
    """Executions permitted in all, first included; None: the task's own policy, else `PG_QUEUE["MAX_ATTEMPTS"]`."""
    headers: Mapping[str, Json] = field(default_factory=dict)
    organization_id: str = ""
    """Whose work it is; the empty string: nobody's in particular."""
    report_to: str | None = None
    """Name of a consumer of outcomes (see `QueueStore.take_outcomes`); None: nobody asks."""
    id: uuid.UUID | None = None
    """The caller's own id, unique for ever; None: the store makes one (time-ordered, UUID version 7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as stored, claimed or not, or as its outcome remembers it."""

    id: uuid.UUID
    task: str
    args: list[Json]
    kwargs: dict[str, Json]
    queue: str
    priority: int
    state: MessageState
    attempts: int
    """Executions begun so far."""
    max_attempts: int
    run_after: datetime
    enqueued_at: datetime
    started_at: datetime | None
    """When the current or last execution was claimed."""
    finished_at: datetime | None
    headers: dict[str, Json]
    organization_id: str
    report_to: str | None = None
    worker: str | None = None
    result: Json = None
    error: Failure | None = None
    """Why the last attempt failed; set on a waiting message too when it is being retried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A worker's hold on a message until `lease_until`, proven by `token`."""

    message: Message
    token: uuid.UUID
    lease_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an execution failed, as JSON can keep it."""

    type: str
    """Qualified name of the exception class, or a reason of our own such as `worker.exited`."""
    message: str
    traceback: str = ""

    def as_json(self) -> dict[str, str]:
        """The stored form: an object with the keys `type`, `message`, `traceback`."""
        return {"type": self.type, "message": self.message, "traceback": self.traceback}


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """An execution returned. `value` is JSON; `ttl` None: the configured time to live, zero: kept for ever."""

    value: Json = None
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """An execution failed and the message is to be tried again after `delay`, unless its attempts are used up."""

    failure: Failure
    delay: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """An execution failed for good: the message becomes a dead letter at once."""

    failure: Failure
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a worker says of one claim."""

    message_id: uuid.UUID
    token: uuid.UUID
    outcome: Success | Retry | Death


class Settled(StrEnum):
    """What the store made of a settlement."""

    DONE = "done"
    RETRYING = "retrying"
    DEAD = "dead"
    LOST = "lost"
    """The token no longer holds the message (expired, reclaimed or already settled): nothing was changed."""
