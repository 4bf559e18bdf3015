"""The queue's public surface: everything another app may import is here.

Enqueue joins the transaction that the caller has open on the queue's database: no commit, no message.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from psycopg import sql as _sql

from pg_queue.domain import (
    DEFAULT_PRIORITY,
    MAX_PRIORITY,
    MIN_PRIORITY,
    TERMINAL_STATES,
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
from pg_queue.errors import (
    CapabilityMissing,
    Configuration,
    DirectConnectionRequired,
    DutyFailed,
    GiveUp,
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
    StoreUnavailable,
    TaskFailed,
    UnknownMessage,
    UnknownTask,
    WaitedTooLong,
)
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
from pg_queue.process import ExitCode, ServiceCommand, StopSignals
from pg_queue.reaper import Duty, DutyRounds, Reaper, Round, add_duties, all_duties, refuse_failed
from pg_queue.results.domain import Outcome, Result
from pg_queue.results.ports import ResultStore
from pg_queue.results.reading import read_result, read_results
from pg_queue.results.registry import result_store
from pg_queue.session import direct_connection
from pg_queue.settings import direct_alias, queue_settings
from pg_queue.sql import named_statements as load_sql
from pg_queue.sql import statements as _statements
from pg_queue.sqlite import as_instant, as_text
from pg_queue.storage import store
from pg_queue.tasks import TaskInfo, current_message, get_task, task, tasks
from pg_queue.text import card as text_card
from pg_queue.text import table as text_table
from pg_queue.validation import check_queue, checked_event, checked_members, checked_message, checked_part
from pg_queue.waiting import wait

__all__ = [
    "DEFAULT_PRIORITY",
    "MAX_PRIORITY",
    "METRICS",
    "MIN_PRIORITY",
    "NEW_ID_SQL",
    "SESSION_ERRORS",
    "STAMP_SECONDS",
    "TERMINAL_STATES",
    "Barrier",
    "BarrierState",
    "BoundedPaginator",
    "CapabilityMissing",
    "Configuration",
    "DirectConnectionRequired",
    "Duty",
    "DutyFailed",
    "DutyRounds",
    "Election",
    "ExitCode",
    "Failure",
    "GiveUp",
    "HealthServer",
    "InvalidMessage",
    "Leadership",
    "LeadershipLost",
    "Message",
    "MessageState",
    "NewEvent",
    "NewMessage",
    "OfferedLookups",
    "Operator",
    "Outcome",
    "PayloadNotJSON",
    "PayloadTooLarge",
    "PostgresElection",
    "PostgresLeadership",
    "Pulse",
    "QueueCollector",
    "QueueDepth",
    "QueueError",
    "Reaper",
    "Result",
    "ResultNotKept",
    "ResultNotReady",
    "ResultRefused",
    "ResultStore",
    "ResultsUnavailable",
    "RetryLater",
    "Round",
    "ServiceCommand",
    "SqliteLeadership",
    "StopSignals",
    "StoreUnavailable",
    "TaskFailed",
    "TaskInfo",
    "UnknownMessage",
    "UnknownTask",
    "WaitedTooLong",
    "WorkerView",
    "add_duties",
    "all_duties",
    "as_instant",
    "as_text",
    "cancel",
    "candidacy",
    "check_queue",
    "current_message",
    "depths",
    "direct_alias",
    "direct_connection",
    "enqueue",
    "enqueue_many",
    "enqueue_sql",
    "get_barriers",
    "get_messages",
    "get_result",
    "get_results",
    "get_task",
    "group",
    "load_sql",
    "missing_migrations",
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

_MESSAGES, _OUTBOX = _statements("messages"), _statements("outbox")

NEW_ID_SQL = "pg_queue_uuid7()"
"""SQL expression: a fresh, time-ordered id for a message."""


def enqueue(
    task: str,
    args: Sequence[Json] = (),
    kwargs: Mapping[str, Json] | None = None,
    *,
    queue: str = "default",
    priority: int = DEFAULT_PRIORITY,
    run_after: datetime | None = None,
    max_attempts: int | None = None,
    headers: Mapping[str, Json] | None = None,
    organization_id: str = "",
    report_to: str | None = None,
    id: uuid.UUID | None = None,
    key: str | None = None,
    key_ttl: timedelta | None = None,
    on_success: Sequence[NewMessage] = (),
    on_failure: Sequence[NewMessage] = (),
    using: str = "default",
) -> uuid.UUID:
    """Store one message and return its id. Joins the caller's transaction. See `NewMessage` for the parameters.

    While `key` holds, the message that has it stands: nothing is stored, and its id is returned. `using` is the alias
    of a store. Raises: UnknownTask; InvalidMessage (also as PayloadNotJSON, PayloadTooLarge) naming the field;
    CapabilityMissing for a store that has no keys or no continuations.
    """
    message = NewMessage(
        task=task,
        args=args,
        kwargs={} if kwargs is None else kwargs,
        queue=queue,
        priority=priority,
        run_after=run_after,
        max_attempts=max_attempts,
        headers={} if headers is None else headers,
        organization_id=organization_id,
        report_to=report_to,
        id=id,
        key=key,
        key_ttl=key_ttl,
        on_success=on_success,
        on_failure=on_failure,
    )
    return enqueue_many([message], using=using)[0]


def enqueue_many(messages: Sequence[NewMessage], *, using: str = "default") -> list[uuid.UUID]:
    """Store messages, all or none, and return their ids in the same order. Joins the caller's transaction.

    First in is first out within one queue and priority. Raises: as `enqueue`, before anything is stored.
    """
    max_bytes = queue_settings().max_payload_bytes
    return store(using).enqueue([checked_message(message, max_bytes=max_bytes) for message in messages])


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
    """The barriers of these ids, open or ended; unknown and expired ones are left out."""
    return store(using).barriers.get(ids)


def enqueue_sql(source: str, *, dialect: str = "postgres") -> str:
    """SQL that stores a message for each row of `source`: for the caller's own statement, in its own transaction.

    An `INSERT` without RETURNING, to be used as a data-modifying CTE or alone, on a session of the queue's database.
    `source` is the name of a CTE or relation with the columns id (uuid), queue, priority, task, args, kwargs, headers
    (jsonb), organization_id, report_to, max_attempts (null: the task's own policy, else the setting) and run_after (not
    claimed before it; null: due at once), in any order; extra columns do no harm. The caller answers for the values
    (`validate_payload`, `get_task`, `check_queue`), and wakes the workers with `wake_sql`. Tasks' policies are read
    when this is called.

    `dialect` "sqlite": the end of the caller's statement, after its WITH. Instants and ids are texts there, as Django
    stores them (`as_text`); the statement's parameter `:now` is the caller's instant.
    """
    if dialect == "sqlite":
        return _sqlite_enqueue(source)
    policies = {info.name: info.max_attempts for info in tasks() if info.max_attempts}
    statement = _sql.SQL(_MESSAGES["enqueue_from"]).format(
        namespace=_sql.Literal(store().namespace),
        attempts_by_task=_sql.Literal(json.dumps(policies).replace("%", "%%")),
        max_attempts=_sql.Literal(queue_settings().max_attempts),
        source=_sql.SQL(source),
    )
    return statement.as_string(None)


def wake_sql() -> str:
    """Statement with one parameter, `%(queues)s` (text[]): wakes the workers that wait for these queues, on commit."""
    statement = _sql.SQL(_MESSAGES["wake"]).format(namespace=_sql.Literal(store().namespace))
    return statement.as_string(None)


def is_unsettled_sql(message_id: str, *, dialect: str = "postgres") -> str:
    """An SQL condition for the caller's own statement: the message of this id waits, runs or is to be tried again.

    `message_id` is an SQL expression of type uuid (in the dialect "sqlite" of a text, as Django stores one); false for
    null, and for a message that has an end.
    """
    texts = _MESSAGES if dialect == "postgres" else _statements("enqueue", dialect)
    return texts["is_unsettled"].format(message_id=message_id)


def _sqlite_enqueue(source: str) -> str:
    policies = {info.name: info.max_attempts for info in tasks() if info.max_attempts}
    cases = " ".join(f"WHEN {_quoted(name)} THEN {attempts:d}" for name, attempts in policies.items())
    return _statements("enqueue", "sqlite")["enqueue_from"].format(
        namespace=_quoted(store().namespace),
        attempts_by_task=f"CASE task {cases} END" if cases else "NULL",
        max_attempts=int(queue_settings().max_attempts),
        source=source,
    )


def _quoted(text: str) -> str:
    """An SQL literal of SQLite, which knows no escape but the doubled quote."""
    return "'" + text.replace("'", "''") + "'"


def validate_payload(args: Sequence[Json], kwargs: Mapping[str, Json]) -> None:
    """Refuse arguments that no message may hold. Raises: PayloadNotJSON, PayloadTooLarge (field `args` or `kwargs`)."""
    check_payload(args, kwargs, max_bytes=queue_settings().max_payload_bytes)


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


def publish_sql(source: str) -> str:
    """SQL that publishes an event for each row of `source`: for the caller's own statement, in its own transaction.

    An `INSERT` without RETURNING, to be used as a data-modifying CTE or alone, on a session of the queue's database.
    `source` is the name of a CTE or relation with the columns id (uuid, of `NEW_ID_SQL`), topic, key (null or empty:
    the id's text) and payload (jsonb), in any order; extra columns do no harm. The caller answers for the values.
    """
    statement = _sql.SQL(_OUTBOX["publish_from"]).format(
        namespace=_sql.Literal(store().namespace.replace("%", "%%")), source=_sql.SQL(source)
    )
    return statement.as_string(None)


def get_messages(ids: Iterable[uuid.UUID], *, using: str = "default") -> dict[uuid.UUID, Message]:
    """The messages of these ids, whatever state they are in; unknown and expired ones are left out."""
    return store(using).get(ids)


def get_result(message_id: uuid.UUID) -> Result | None:
    """What became of a message, with what its task returned, wherever that is kept; None for an unknown or expired one.

    Raises: ResultNotKept for a message of a fire-and-forget task, unless it failed; ResultsUnavailable when the queue
    or the store of results cannot be asked, which says nothing of the message.
    """
    return read_result(message_id)


def get_results(ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Result]:
    """What became of these messages, by id, as `get_result` tells it; unknown and expired ones are left out.

    Of a fire-and-forget task there is the state, with `is_kept` False. Raises: ResultsUnavailable.
    """
    return read_results(ids)


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
    """Let dead letters run again with all their attempts; returns those that were there. Joins the transaction."""
    return store(using).replay(ids)


def cancel(ids: Sequence[uuid.UUID], *, reason: str = "", using: str = "default") -> set[uuid.UUID]:
    """End messages that wait or run as cancelled; returns those that did. Joins the caller's transaction.

    What runs is stopped at its worker's next renewal. Their outcome says `reason`. Raises: CapabilityMissing.
    """
    return store(using).cancel(ids, reason=reason)
