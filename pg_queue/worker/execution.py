"""One execution: what a task's return or raise means for its message."""

from __future__ import annotations

import random
import traceback
from datetime import timedelta

from django.db import close_old_connections

from pg_queue.domain import Death, Failure, Json, Message, Retry, Success
from pg_queue.errors import GiveUp, PayloadNotJSON, PayloadTooLarge, RetryLater, UnknownTask
from pg_queue.payload import plain_result
from pg_queue.settings import queue_settings
from pg_queue.tasks import execute, get_task

Outcome = Success | Retry | Death

MESSAGE_CHARACTERS = 2_000
TRACEBACK_CHARACTERS = 16_000
JITTER = 0.25
"""A retry waits up to this share longer, so that what failed together does not come back together."""


def outcome_of(message: Message) -> Outcome:
    """Run the message's task in this process. Whatever it raises, `SystemExit` too, becomes an outcome.

    Django's connections are checked before and after, as around a request; the task runs in autocommit.
    """
    try:
        close_old_connections()
        value = execute(message)
    except BaseException as raised:  # noqa: BLE001 - whatever a task does, its message needs an outcome
        return _outcome_of_raised(message, raised)
    finally:
        close_old_connections()
    return _outcome_of_returned(value)


def failure_of(error: BaseException, *, kind: str | None = None) -> Failure:
    """The error as it is kept: bounded, and without the characters that PostgreSQL refuses."""
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    trace = "".join(traceback.format_exception(error))
    if len(trace) > TRACEBACK_CHARACTERS:
        trace = f"…\n{trace[-TRACEBACK_CHARACTERS:]}"
    return Failure(type=kind or name, message=_storable(_text(error))[:MESSAGE_CHARACTERS], traceback=_storable(trace))


def backoff(message: Message) -> timedelta:
    """How long the next attempt waits: the task's or the setting's delay, doubled per attempt, jittered, capped."""
    conf = queue_settings()
    try:
        own = get_task(message.task).retry_backoff_seconds
    except UnknownTask:
        own = None
    base = conf.retry_backoff_seconds if own is None else own
    doubled = base * 2 ** min(message.attempts - 1, 60)
    return timedelta(seconds=min(doubled * random.uniform(1, 1 + JITTER), conf.retry_backoff_max_seconds))


def _outcome_of_returned(value: Json) -> Outcome:
    """A result that cannot be kept is final: running the task again would return it again."""
    try:
        return Success(value=plain_result(value, max_bytes=queue_settings().max_payload_bytes))
    except PayloadNotJSON as error:
        return Death(failure=failure_of(error, kind="task.result_not_json"))
    except PayloadTooLarge as error:
        return Death(failure=failure_of(error, kind="task.result_too_large"))


def _outcome_of_raised(message: Message, raised: BaseException) -> Outcome:
    if isinstance(raised, GiveUp):
        return Death(failure=failure_of(raised.__cause__ or raised))
    if isinstance(raised, UnknownTask) and raised.name == message.task:
        return Retry(failure=failure_of(raised, kind="worker.unknown_task"), delay=backoff(message))
    if isinstance(raised, RetryLater):
        asked = raised.delay_seconds
        delay = backoff(message) if asked is None else timedelta(seconds=max(0.0, asked))
        return Retry(failure=failure_of(raised.__cause__ or raised), delay=delay)
    return Retry(failure=failure_of(raised), delay=backoff(message))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - an exception's own __str__ may be what is broken
        return f"(its __str__ raised {type(second).__name__})"


def _storable(text: str) -> str:
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
