"""What Celery's result backend keeps in the queue's database: read as results of messages, and deleted in its time.

A message that a stock Celery worker has executed leaves no outcome in the queue; its result is Celery's row. Only what
is JSON is read here: nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from django.db import connections

from pg_queue.domain import Failure, MessageState
from pg_queue.results.domain import Result
from pg_queue.settings import QueueSettings, StoreSettings, queue_settings
from pg_queue.sql import statements

_SQL = statements("celery_results")
_RETAINING = ("retain_results", "retain_groups", "retain_chords")

STATES = {
    "SUCCESS": MessageState.SUCCEEDED,
    "FAILURE": MessageState.FAILED,
    "REVOKED": MessageState.CANCELLED,
    "RETRY": MessageState.WAITING,
}
"""Celery's words; any other one is of a task that runs."""
FAILING = {"FAILURE", "REVOKED", "RETRY"}
"""Those whose result is an error."""


def get_celery_results(message_ids: Iterable[UUID], *, using: str) -> dict[UUID, Result]:
    """What Celery's workers have stored of these messages in the database of this store; nothing elsewhere."""
    place = queue_settings().places[using]
    ids = [str(message_id) for message_id in message_ids]
    if not ids or not _is_postgres(place):
        return {}
    with _session(place.database) as cursor:
        parameters = {"namespace": place.namespace, "ids": ids}
        rows = cursor.execute(_SQL["read"], parameters, binary=True).fetchall()
    return {UUID(row[0]): _result(place.namespace, *row) for row in rows}


def retain_celery_results() -> int:
    """Delete one batch of each kind past its time to live, in each of the stores' databases; how many that were."""
    conf = queue_settings()
    deleted = 0
    for database in celery_databases(conf):
        with _session(database) as cursor:
            for name in _RETAINING:
                deleted += cursor.execute(_SQL[name], {"limit": conf.reap_batch}).rowcount
    return deleted


def celery_databases(conf: QueueSettings) -> list[str]:
    """The databases in which Celery's results may be kept."""
    return sorted({place.database for place in conf.places.values() if _is_postgres(place)})


def _is_postgres(place: StoreSettings) -> bool:
    return place.backend in {"", "postgres"} and connections[place.database].vendor == "postgresql"


@contextmanager
def _session(database: str) -> Iterator[psycopg.Cursor[Any]]:
    connection = connections[database]
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        yield cursor


def _result(namespace: str, task_id: str, status: str, content_type: str, body: bytes, stored_at: Any) -> Result:
    state = STATES.get(status, MessageState.RUNNING)
    meta = _meta(content_type, bytes(body))
    is_end = state is not MessageState.RUNNING and state is not MessageState.WAITING
    return Result(
        message_id=UUID(task_id),
        namespace=namespace,
        state=state,
        attempts=1 + int((meta or {}).get("retries") or 0),
        finished_at=stored_at if is_end else None,
        value=meta["result"] if meta and state is MessageState.SUCCEEDED else None,
        error=_failure(meta or {}) if status in FAILING else None,
        is_kept=meta is not None,
    )


def _meta(content_type: str, body: bytes) -> Mapping[str, Any] | None:
    """None: another serializer's, or compressed."""
    if content_type != "application/json":
        return None
    try:
        meta: Mapping[str, Any] = json.loads(body)
    except ValueError:
        return None
    return meta


def _failure(meta: Mapping[str, Any]) -> Failure:
    error = meta.get("result")
    error = error if isinstance(error, Mapping) else {}
    told = error.get("exc_message", "")
    return Failure(
        type=".".join(filter(None, [error.get("exc_module"), error.get("exc_type")])) or "unknown",
        message=", ".join(map(str, told)) if isinstance(told, list) else str(told),
        traceback=meta.get("traceback") or "",
    )
