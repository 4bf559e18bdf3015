"""SQL for statements of the caller's own, on a session of the queue's database: it enqueues, publishes and asks there.

Values that are the project's own (the tasks' policies, the routes) are literals in it, read when it is composed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pg_queue.routes import EVERY_QUEUE, Routes
from pg_queue.settings import queue_settings
from pg_queue.sql import statements
from pg_queue.storage import store
from pg_queue.tasks import Delivery, tasks

NEW_ID_SQL = "pg_queue_uuid7()"
"""SQL expression: a fresh, time-ordered id for a message."""

_MESSAGES, _OUTBOX, _RELAY = statements("messages"), statements("outbox"), statements("relay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Two statements for one relation of messages; see `dispatch_sql`."""

    enqueue: str
    """Stores those that stay, as `enqueue_sql` does."""
    publish: str | None
    """Puts those into the outbox whose queue is routed away; None: no queue is."""


def enqueue_sql(source: str, *, dialect: str = "postgres") -> str:
    """SQL that stores a message for each row of `source`: for the caller's own statement, in its own transaction.

    An `INSERT` without RETURNING, to be used as a data-modifying CTE or alone, on a session of the queue's database.
    `source` is the name of a CTE or relation with the columns id (uuid), queue, priority, task, args, kwargs, headers
    (jsonb), organization_id, report_to, max_attempts (null: the task's own policy, else the setting; 1 for a task that
    is delivered at most once, whatever it says) and run_after (not claimed before it; null: due at once), in any order;
    extra columns do no harm. The caller answers for the values (`validate_payload`, `get_task`, `check_queue`), and
    wakes the workers with `wake_sql`. Tasks' policies are read when this is called.

    `dialect` "sqlite": the end of the caller's statement, after its WITH. Instants and ids are texts there, as Django
    stores them (`as_text`); the statement's parameter `:now` is the caller's instant.
    """
    if dialect == "sqlite":
        return statements("enqueue", "sqlite")["enqueue_from"].format(source=source, **_sqlite_parts())
    return _composed(_MESSAGES["enqueue_from"], namespace=_namespace(), source=sql.SQL(source), **_policies())


def dispatch_sql(source: str, *, dialect: str = "postgres") -> Dispatch:
    """SQL that stores the messages of `source` where their queues are worked off, as `enqueue_sql` describes it.

    Both statements are for one statement of the caller's; on SQLite each is the end of one. Without routes, `enqueue`
    is what `enqueue_sql` returns. Routes are read when this is called. Raises: CapabilityMissing where something leaves
    a store without an outbox.
    """
    routes = queue_settings().routing
    if not routes:
        return Dispatch(enqueue=enqueue_sql(source, dialect=dialect), publish=None)
    _ = store().outbox
    if dialect == "sqlite":
        return _sqlite_dispatch(source, _topic(routes, quote=_quoted, kind=""))
    parts = {"topic": sql.SQL(_topic(routes, quote=_literal, kind="::text")), "source": sql.SQL(source)}
    staying = _composed(_RELAY["staying"], **parts)
    leaving = _composed(_RELAY["leaving"], **parts, **_policies())
    return Dispatch(enqueue=enqueue_sql(f"({staying}) AS staying"), publish=publish_sql(f"({leaving}) AS leaving"))


def publish_sql(source: str) -> str:
    """SQL that publishes an event for each row of `source`: for the caller's own statement, in its own transaction.

    An `INSERT` without RETURNING, to be used as a data-modifying CTE or alone, on a session of the queue's database.
    `source` is the name of a CTE or relation with the columns id (uuid, of `NEW_ID_SQL`), topic, key (null or empty:
    the id's text) and payload (jsonb), in any order; extra columns do no harm. The caller answers for the values.
    """
    return _composed(_OUTBOX["publish_from"], namespace=_namespace(), source=sql.SQL(source))


def wake_sql() -> str:
    """Statement with one parameter, `%(queues)s` (text[]): wakes the workers that wait for these queues, on commit."""
    return _composed(_MESSAGES["wake"], namespace=_namespace())


def is_unsettled_sql(message_id: str, *, dialect: str = "postgres") -> str:
    """An SQL condition for the caller's own statement: the message of this id waits, runs or is to be tried again.

    `message_id` is an SQL expression of type uuid (in the dialect "sqlite" of a text, as Django stores one); false for
    null, and for a message that has an end. One that was routed away counts until its target has taken it.
    """
    source = "messages" if dialect == "postgres" else "enqueue"
    is_here = statements(source, dialect)["is_unsettled"].format(message_id=message_id)
    if not has_routes():
        return is_here
    return f"({is_here} OR {statements('relay', dialect)['is_leaving'].format(message_id=message_id)})"


def has_routes() -> bool:
    """Whether messages of any queue leave for another system."""
    return bool(queue_settings().routing)


def _composed(statement: str, **parts: sql.Composable) -> str:
    return sql.SQL(statement).format(**parts).as_string(None)


def _policies() -> dict[str, sql.Composable]:
    return {
        "headers": _headers(),
        "once_by_task": _by_task(_once()),
        "attempts_by_task": _by_task(_attempts()),
        "max_attempts": sql.Literal(queue_settings().max_attempts),
    }


def _headers() -> sql.Composable:
    """Of a row of the caller's. Costs nothing where no task has an expiry."""
    expiries = _expiries()
    if not expiries:
        return sql.SQL("headers")
    return sql.SQL(_MESSAGES["expiring_headers"]).format(expires_by_task=_by_task(expiries))


def _by_task(values: Mapping[str, float]) -> sql.Composable:
    return sql.Literal(json.dumps(values).replace("%", "%%"))


def _attempts() -> dict[str, int]:
    return {info.name: info.max_attempts for info in tasks() if info.max_attempts}


def _expiries() -> dict[str, float]:
    """In seconds."""
    return {info.name: info.expires.total_seconds() for info in tasks() if info.expires is not None}


def _once() -> dict[str, int]:
    """The tasks that are delivered at most once: what the caller's rows say of attempts does not count for them."""
    return {info.name: 1 for info in tasks() if info.delivery is Delivery.AT_MOST_ONCE}


def _namespace() -> sql.Composable:
    return sql.Literal(store().namespace)


def _topic(routes: Routes, *, quote: Callable[[str | None], str], kind: str) -> str:
    """An expression on the column `queue`: the topic that it leaves under, or null."""
    cases = [f"WHEN {quote(queue)} THEN {quote(topic)}" for queue, topic in sorted(routes.own_topics.items())]
    other = quote(routes.topic_of(EVERY_QUEUE))
    return f"CASE queue {' '.join(cases)} ELSE {other} END" if cases else f"{other}{kind}"


def _literal(value: str | None) -> str:
    return "NULL" if value is None else sql.Literal(value).as_string(None)


def _sqlite_dispatch(source: str, topic: str) -> Dispatch:
    texts = statements("relay", "sqlite")
    staying = texts["staying"].format(source=source, topic=topic)
    return Dispatch(
        enqueue=enqueue_sql(f"({staying})", dialect="sqlite"),
        publish=texts["publish_from"].format(source=source, topic=topic, **_sqlite_parts()),
    )


def _sqlite_parts() -> dict[str, Any]:
    return {
        "namespace": _quoted(store().namespace),
        "headers": _sqlite_headers(),
        "once_by_task": _sqlite_by_task(_once()),
        "attempts_by_task": _sqlite_by_task(_attempts()),
        "max_attempts": int(queue_settings().max_attempts),
    }


def _sqlite_headers() -> str:
    expiries = _expiries()
    if not expiries:
        return "headers"
    return statements("enqueue", "sqlite")["expiring_headers"].format(expires_by_task=_sqlite_by_task(expiries))


def _sqlite_by_task(values: Mapping[str, float]) -> str:
    cases = " ".join(f"WHEN {_quoted(name)} THEN {value!r}" for name, value in values.items())
    return f"CASE task {cases} END" if cases else "NULL"


def _quoted(text: str | None) -> str:
    """An SQL literal of SQLite, which knows no escape but the doubled quote."""
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"
