"""The queue's words as types: messages, claims, outcomes. No Django, no I/O, no driver."""

from __future__ import annotations

import math
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
    key: str | None = None
    """Idempotency key, unique within the namespace while it holds; None: every enqueue is a message of its own."""
    key_ttl: timedelta | None = None
    """How long `key` holds after the message has ended; zero: only until then; None: `PG_QUEUE["KEY_TTL_SECONDS"]`."""
    on_success: Sequence[NewMessage] = ()
    """Continuations: enqueued by the very transaction that settles this message as succeeded."""
    on_failure: Sequence[NewMessage] = ()
    """The same when it has failed for good or was cancelled; not before each retry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an execution says that it is."""

    done: float
    """0 to `total`."""
    total: float = 1.0
    """Above 0."""
    stage: str = ""
    """What it does now, in words."""
    at: datetime | None = None
    """When the store took note of it, by its clock."""

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return self.done / self.total


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
    key: str | None = None
    """The idempotency key under which it was enqueued."""
    barrier_id: uuid.UUID | None = None
    """The barrier that waits for it."""
    progress: Progress | None = None
    """What its execution last said of itself; kept until the next one begins, or the message ends."""


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
    keep: bool = True
    """False: `value` is dropped, and where nobody needs the end nothing is kept of the message at all: it has no
    `report_to`, no key, no barrier, no continuations, and its settlement no events."""
    followers: Sequence[NewMessage] = ()
    """What the execution has sent on. Its worker enqueues it into the default store, with the settlement if it can."""

    @property
    def kept_value(self) -> Json:
        """What the store keeps of `value`."""
        return self.value if self.keep else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """An execution failed and the message is to be tried again after `delay`, unless its attempts are used up."""

    failure: Failure
    delay: timedelta
    followers: Sequence[NewMessage] = ()
    """What the execution has sent on. Its worker enqueues it into the default store, with the settlement if it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """An execution failed for good: the message becomes a dead letter at once."""

    failure: Failure
    ttl: timedelta | None = None
    followers: Sequence[NewMessage] = ()
    """What the execution has sent on. Its worker enqueues it into the default store, with the settlement if it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a worker says of one claim."""

    message_id: uuid.UUID
    token: uuid.UUID
    outcome: Success | Retry | Death
    events: Sequence[NewEvent] = ()
    """Published by the same transaction, if the token holds; never when the settlement is lost."""

    @property
    def is_traceless(self) -> bool:
        """Nothing has to be kept, unless the message itself asks for more (see `Success.keep`)."""
        return isinstance(self.outcome, Success) and not self.outcome.keep and not self.events


class Settled(StrEnum):
    """What the store made of a settlement."""

    DONE = "done"
    RETRYING = "retrying"
    DEAD = "dead"
    LOST = "lost"
    """The token no longer holds the message (expired, reclaimed or already settled): nothing was changed."""


class BarrierState(StrEnum):
    """A barrier's life. The last two are terminal."""

    OPEN = "open"
    """Members are missing."""
    DONE = "done"
    """All have succeeded, and the callback was enqueued."""
    ABORTED = "aborted"
    """A member has failed for good or was cancelled: the callback never runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier:
    """Fan-in: some messages, and what is enqueued once when all of them have succeeded."""

    id: uuid.UUID
    member_ids: list[uuid.UUID]
    """In the order in which the members were given."""
    remaining: int
    """Members that have not succeeded yet."""
    state: BarrierState
    callback_id: uuid.UUID | None
    """Id of the callback's message, known from the start; None: nothing is called back."""
    culprit_id: uuid.UUID | None
    """The member that aborted it."""
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """Something to tell the world outside, once the transaction that says so is committed."""

    topic: str
    """Which relay takes it, such as `relay:celery`. 1 to 128 characters, as a queue's name."""
    payload: Json
    key: str = ""
    """What the receiver can recognise a repetition by; the empty string: the event's id."""
    id: uuid.UUID | None = None
    """None: the store makes one (UUID version 7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedEvent:
    """An event that has not left yet."""

    id: uuid.UUID
    topic: str
    payload: Json
    key: str
    created_at: datetime
    attempts: int
    """Times it was leased, the present one included."""
    error: str
    """Why the last attempt was put off; empty: none was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(PublishedEvent):
    """A published event, leased to one relay until it is confirmed or put off."""

    token: uuid.UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The events of one topic that are still to be relayed."""

    topic: str
    waiting: int
    failing: int
    """Those among them that were put off at least once."""
    oldest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """An operator's word on one queue, or on all of a namespace."""

    queue: str | None
    """None: all queues of the namespace."""
    is_on: bool
    changed_at: datetime
    changed_by: str
    reason: str


class WorkerState(StrEnum):
    """What to think of a worker that is on record."""

    ACTIVE = "active"
    STALE = "stale"
    """It has not said that it stops, and was not heard of for too long: frozen, cut off, or killed."""
    STOPPED = "stopped"
    """In good order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A worker as its row shows it."""

    def state(self, *, stale_seconds: float) -> WorkerState:
        """What to think of it, where one that was not heard of for so long is `STALE`."""
        if self.stopped_at is not None:
            return WorkerState.STOPPED
        return WorkerState.STALE if self.silent_seconds > stale_seconds else WorkerState.ACTIVE

    id: str
    """host:pid:start, unique for ever."""
    host: str
    process_id: int
    queues: list[str]
    concurrency: int
    started_at: datetime
    heartbeat_at: datetime
    stopped_at: datetime | None
    """When it stopped in good order; None: it works, or it vanished."""
    running: int
    finished: int
    failed: int
    statistics: dict[str, Json] = field(default_factory=dict)
    """What it said of itself with its last heartbeat, see `pg_queue.worker.statistics`; empty before the first."""
    silent_seconds: float = 0.0
    """Since the last heartbeat, by the store's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How often something may begin: evenly so many in a period, and so many at once after a pause."""

    count: int
    period_seconds: float
    burst: int
    """1 or more."""

    @property
    def interval_seconds(self) -> float:
        """How long one token takes to come back."""
        return self.period_seconds / self.count

    def spend(self, full_at: int, *, now: int, wanted: int) -> tuple[int, int]:
        """How many of `wanted` tokens a bucket gives that is full again at `full_at`, and when it is so after that.

        In microseconds. An instant says all that there is to know of a bucket, and rounding it up gives nothing away.
        """
        interval = self.interval_seconds * 1e6
        begun = max(full_at, now)
        given = max(0, min(wanted, math.floor(self.burst - (begun - now) / interval + ROUNDING)))
        return given, begun + math.ceil(given * interval)

    def wait_seconds(self, full_at: int, *, now: int) -> float:
        """Seconds until a bucket that is full at `full_at` has a token; 0: it has one."""
        return max(0.0, (full_at - now) / 1e6 - (self.burst - 1) * self.interval_seconds)


ROUNDING = 1e-6
"""Of a token: what is missing by less is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a bucket has given."""

    count: int
    wait_seconds: float
    """Until it has another one; 0: it has."""


class Capability(StrEnum):
    """What a store may lack. Asking for one that it lacks is refused at once, by `CapabilityMissing`."""

    TRANSACTIONS = "transactions"
    """`enqueue`, `publish`, `replay` and `take_outcomes` join the caller's Django transaction."""
    SET_ENQUEUE = "set_enqueue"
    """A statement of the caller's own may enqueue a whole relation (`pg_queue.api.enqueue_sql`)."""
    NAMESPACES = "namespaces"
    KEYS = "keys"
    """Idempotency keys."""
    CANCEL = "cancel"
    CONTINUATIONS = "continuations"
    BARRIERS = "barriers"
    EVENTS = "events"
    """The outbox."""
    SWITCHES = "switches"
    LOCKS = "locks"
    LIMITS = "limits"
    """Rate limits that hold among all workers."""
    FAIRNESS = "fairness"
    """Organizations take turns, and low priority is not starved."""
    WAKE = "wake"
    """A listener hears of an enqueue; without it, workers poll."""
    OPERATIONS = "operations"
    """Browse, purge and drop."""


class Action(StrEnum):
    """What an operator may do to queues and dead letters."""

    OFF = "off"
    ON = "on"
    PURGE = "purge"
    """Cancel what waits."""
    REPLAY = "replay"
    DROP = "drop"
    """Delete dead letters for good."""
    CLEAR = "clear"
    """Delete what has completed."""
    DROP_EVENTS = "drop-events"
    """Delete from the outbox what is never to leave."""
