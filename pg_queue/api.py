"""The queue's public surface: everything another app may import is here.

Enqueue joins the transaction that the caller has open on the queue's database: no commit, no message.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence

from pg_queue.composition import (
    NEW_ID_SQL,
    Dispatch,
    dispatch_sql,
    enqueue_sql,
    has_routes,
    is_unsettled_sql,
    publish_sql,
    wake_sql,
)
from pg_queue.domain import (
    DEFAULT_PRIORITY,
    MAX_PRIORITY,
    MIN_PRIORITY,
    TERMINAL_STATES,
    Backlog,
    Barrier,
    BarrierState,
    Failure,
    Json,
    Message,
    MessageState,
    NewEvent,
    NewMessage,
    WorkerView,
)
from pg_queue.enqueueing import enqueue, enqueue_many
from pg_queue.errors import (
    CapabilityMissing,
    Configuration,
    DirectConnectionRequired,
    DutyFailed,
    GiveUp,
    InvalidArguments,
    InvalidMessage,
    LeadershipLost,
    PayloadNotJSON,
    PayloadTooLarge,
    QueueError,
    ResultNotKept,
    ResultNotReady,
    ResultRefused,
    ResultsUnavailable,
    RetryLater,
    SoftTimeLimitExceeded,
    StoreUnavailable,
    TaskFailed,
    UnknownMessage,
    UnknownTask,
    WaitedTooLong,
)
from pg_queue.handles import Sending, SendOptions, Task, task
from pg_queue.health import METRICS, HealthServer, Pulse, QueueCollector, missing_migrations
from pg_queue.leader import (
    SESSION_ERRORS,
    STAMP_SECONDS,
    Election,
    Leadership,
    PostgresElection,
    PostgresLeadership,
    SqliteLeadership,
    candidacy,
)
from pg_queue.lookups import OfferedLookups
from pg_queue.operator import Operator
from pg_queue.paginator import BoundedPaginator
from pg_queue.payload import check_payload
from pg_queue.ports import QueueDepth
from pg_queue.process import ExitCode, NotMigrated, ServiceCommand, StopRequest, StopSignals, check_ready
from pg_queue.reaper import Duty, DutyRounds, Reaper, Round, add_duties, all_duties, refuse_failed
from pg_queue.relay import Follower, Relay, follow, get_outgoing
from pg_queue.relay import dispatch as _dispatch
from pg_queue.results.domain import Outcome, Result
from pg_queue.results.ports import ResultStore
from pg_queue.results.reading import get_result, get_results
from pg_queue.results.registry import result_store
from pg_queue.session import direct_connection
from pg_queue.settings import direct_alias, queue_settings
from pg_queue.sql import named_statements as load_sql
from pg_queue.sqlite import as_instant, as_text
from pg_queue.storage import store
from pg_queue.tasks import (
    Backoff,
    Delivery,
    Progress,
    RetryPolicy,
    TaskContext,
    TaskInfo,
    current_context,
    current_message,
    get_task,
    tasks,
)
from pg_queue.text import card as text_card
from pg_queue.text import table as text_table
from pg_queue.validation import (
    check_arguments,
    check_queue,
    check_reason,
    checked_event,
    checked_ids,
    checked_members,
    checked_message,
    checked_part,
)
from pg_queue.waiting import wait
from pg_queue.worker.embedded import EmbeddedWorker
from pg_queue.worker.options import WorkerOptions

__all__ = [
    "DEFAULT_PRIORITY",
    "MAX_PRIORITY",
    "METRICS",
    "MIN_PRIORITY",
    "NEW_ID_SQL",
    "SESSION_ERRORS",
    "STAMP_SECONDS",
    "TERMINAL_STATES",
    "Backlog",
    "Backoff",
    "Barrier",
    "BarrierState",
    "BoundedPaginator",
    "CapabilityMissing",
    "Configuration",
    "Delivery",
    "DirectConnectionRequired",
    "Dispatch",
    "Duty",
    "DutyFailed",
    "DutyRounds",
    "Election",
    "EmbeddedWorker",
    "ExitCode",
    "Failure",
    "Follower",
    "GiveUp",
    "HealthServer",
    "InvalidArguments",
    "InvalidMessage",
    "Leadership",
    "LeadershipLost",
    "Message",
    "MessageState",
    "NewEvent",
    "NewMessage",
    "NotMigrated",
    "OfferedLookups",
    "Operator",
    "Outcome",
    "PayloadNotJSON",
    "PayloadTooLarge",
    "PostgresElection",
    "PostgresLeadership",
    "Progress",
    "Pulse",
    "QueueCollector",
    "QueueDepth",
    "QueueError",
    "Reaper",
    "Relay",
    "Result",
    "ResultNotKept",
    "ResultNotReady",
    "ResultRefused",
    "ResultStore",
    "ResultsUnavailable",
    "RetryLater",
    "RetryPolicy",
    "Round",
    "SendOptions",
    "Sending",
    "ServiceCommand",
    "SoftTimeLimitExceeded",
    "SqliteLeadership",
    "StopRequest",
    "StopSignals",
    "StoreUnavailable",
    "Task",
    "TaskContext",
    "TaskFailed",
    "TaskInfo",
    "UnknownMessage",
    "UnknownTask",
    "WaitedTooLong",
    "WorkerOptions",
    "WorkerView",
    "add_duties",
    "all_duties",
    "as_instant",
    "as_text",
    "cancel",
    "candidacy",
    "check_queue",
    "check_ready",
    "check_reason",
    "current_context",
    "current_message",
    "depths",
    "direct_alias",
    "direct_connection",
    "dispatch",
    "dispatch_sql",
    "enqueue",
    "enqueue_many",
    "enqueue_sql",
    "follow",
    "get_barriers",
    "get_messages",
    "get_outgoing",
    "get_result",
    "get_results",
    "get_task",
    "group",
    "has_routes",
    "is_unsettled_sql",
    "load_sql",
    "missing_migrations",
    "outbox_backlog",
    "publish",
    "publish_many",
    "publish_sql",
    "queue_settings",
    "refuse_failed",
    "replay",
    "result_store",
    "store",
    "take_outcomes",
    "task",
    "tasks",
    "text_card",
    "text_table",
    "validate_payload",
    "wait",
    "wake_sql",
    "workers",
]


def group(
    members: Sequence[NewMessage],
    *,
    callback: NewMessage | None = None,
    on_abort: NewMessage | None = None,
    id: uuid.UUID | None = None,
    using: str = "default",
) -> Barrier:
    """Enqueue `members`, all or none, and `callback` once when all of them have succeeded. Joins the transaction.

    The first member that fails for good or is cancelled aborts the barrier: `on_abort` is enqueued in the callback's
    place, and the other members run on. `Barrier.callback_id` is known from the start. None of them has a key.

    Raises: as `enqueue`, with the way to the field (`members[3].args`); CapabilityMissing for a store without barriers.
    """
    max_bytes = queue_settings().max_payload_bytes
    return store(using).barriers.create(
        checked_members(members, max_bytes=max_bytes),
        callback=callback and checked_part("callback", callback, max_bytes=max_bytes),
        on_abort=on_abort and checked_part("on_abort", on_abort, max_bytes=max_bytes),
        id=id,
    )


def get_barriers(ids: Iterable[uuid.UUID], *, using: str = "default") -> dict[uuid.UUID, Barrier]:
    """The barriers of these ids, open or ended; unknown and expired ones are left out. Raises: as `get_messages`."""
    return store(using).barriers.get(checked_ids("ids", ids))


def dispatch(message: NewMessage) -> uuid.UUID:
    """Store one message where its queue is worked off (`PG_QUEUE["ROUTES"]`), and return its id.

    Joins the caller's transaction, also for a queue that is routed away: the message then waits in the outbox for the
    relay, and is sent at least once after the commit. It is a message of its own, also where its task has `unique`:
    schedules have a policy for overlaps. Raises: as `enqueue`; CapabilityMissing without an outbox;
    InvalidMessage (field `key`, `on_success` or `on_failure`) for what cannot be kept when it leaves.
    """
    checked = checked_message(message, max_bytes=queue_settings().max_payload_bytes, is_unique=False)
    if queue_settings().routing.topic_of(checked.queue) is not None:
        for field in ("key", "on_success", "on_failure"):
            if value := getattr(checked, field):
                expected = f"none for a message of the queue {checked.queue!r}, which is routed away"
                raise InvalidMessage(field=field, expected=expected, got=value)
    return _dispatch(checked)


def outbox_backlog() -> Sequence[Backlog]:
    """What waits in the outbox, per topic: exact. Messages that are routed away have topics that begin with `relay:`.

    Raises: CapabilityMissing on a store without an outbox.
    """
    return store().outbox.backlog()


def validate_payload(args: Sequence[Json], kwargs: Mapping[str, Json], *, task: str | None = None) -> None:
    """Refuse arguments that no message may hold, or none of this task, where that checks them by its type hints.

    Raises: PayloadNotJSON, PayloadTooLarge, InvalidArguments (field `args` or `kwargs`).
    """
    max_bytes = queue_settings().max_payload_bytes
    if task is None:
        check_payload(args, kwargs, max_bytes=max_bytes)
    else:
        check_arguments(task, args, kwargs, max_bytes=max_bytes)


def publish(
    topic: str, payload: Json, *, key: str = "", id: uuid.UUID | None = None, using: str = "default"
) -> uuid.UUID:
    """Put one event into the outbox, for the relay of `topic`, and return its id. Joins the caller's transaction.

    It leaves at least once after that transaction's commit, and never when it is rolled back. See `NewEvent` for the
    parameters. Raises: InvalidMessage (also as PayloadNotJSON, PayloadTooLarge) naming the field.
    """
    return publish_many([NewEvent(topic=topic, payload=payload, key=key, id=id)], using=using)[0]


def publish_many(events: Sequence[NewEvent], *, using: str = "default") -> list[uuid.UUID]:
    """Publish events, all or none, and return their ids in the same order. Joins the caller's transaction.

    Raises: as `publish`, before anything is stored.
    """
    max_bytes = queue_settings().max_payload_bytes
    return store(using).outbox.publish([checked_event(event, max_bytes=max_bytes) for event in events])


def get_messages(ids: Iterable[uuid.UUID], *, using: str = "default") -> dict[uuid.UUID, Message]:
    """The messages of these ids, whatever state they are in; unknown and expired ones are left out.

    Raises: InvalidMessage (field `ids[…]`) for what is no `uuid.UUID`.
    """
    return store(using).get(checked_ids("ids", ids))


def take_outcomes(report_to: str, *, limit: int, using: str = "default") -> list[Message]:
    """Take at most `limit` outcomes meant for `report_to`, oldest first. Joins the caller's transaction.

    Each is handed over exactly once among committed transactions; a replayed dead letter has an outcome again.
    """
    return store(using).take_outcomes(report_to, limit=limit)


def depths(*, using: str = "default") -> Sequence[QueueDepth]:
    """Each queue's exact figures: waiting, delayed, running, dead, age of the oldest. Reads the whole table."""
    return store(using).depths()


def workers() -> Sequence[WorkerView]:
    """All workers on record, the last heard of first; also those that stopped or vanished, until they are forgotten."""
    return store().workers.list()


def replay(ids: Sequence[uuid.UUID], *, using: str = "default") -> set[uuid.UUID]:
    """Let dead letters run again with all their attempts; returns those that were there. Joins the transaction.

    Raises: InvalidMessage (field `ids[…]`).
    """
    return store(using).replay(checked_ids("ids", ids))


def cancel(ids: Sequence[uuid.UUID], *, reason: str = "", using: str = "default") -> set[uuid.UUID]:
    """End messages that wait or run as cancelled; returns those that did. Joins the caller's transaction.

    What runs is stopped at its worker's next renewal. Their outcome says `reason`. Raises: CapabilityMissing;
    InvalidMessage (field `reason` or `ids[…]`).
    """
    check_reason(reason)
    return store(using).cancel(checked_ids("ids", ids), reason=reason)
