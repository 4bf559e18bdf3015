"""One execution: what a task's return or raise means for its message."""

from __future__ import annotations

import logging
import random
import traceback
from datetime import timedelta

from django.db import close_old_connections, connections

from pg_queue.domain import Death, Failure, Json, Message, Retry, Success
from pg_queue.errors import GiveUp, PayloadNotJSON, PayloadTooLarge, RetryLater, UnknownTask
from pg_queue.payload import plain_result
from pg_queue.settings import queue_settings
from pg_queue.tasks import execute, get_task, keeps_result

logger = logging.getLogger(__name__)

Outcome = Success | Retry | Death

TYPE_CHARACTERS = 255
MESSAGE_CHARACTERS = 2_000
TRACEBACK_CHARACTERS = 16_000
LONGEST_DELAY_SECONDS = 3653 * 86400.0
"""Ten years: a later instant is a mistake, and one past the year 9999 could not be read back."""
JITTER = 0.25
"""A retry waits up to this share longer, so that what failed together does not come back together."""


def outcome_of(message: Message) -> Outcome:
    """Run the message's task in this process. Whatever it raises, `SystemExit` too, becomes an outcome.

    Django's connections are checked before and after, as around a request; the task runs in autocommit. One that leaves
    a transaction open has failed: nothing of it was committed, and the next task must not run inside it.
    """
    begun_outside = _in_transaction()
    try:
        close_old_connections()
        outcome = _outcome_of_returned(message, execute(message))
    except BaseException as raised:  # noqa: BLE001 - whatever a task does, its message needs an outcome
        outcome = _outcome_of_raised(message, raised)
    if left_open := _in_transaction() - begun_outside:
        _discard(left_open)
        if isinstance(outcome, Success):
            text = f"the task returned and left a transaction open on {', '.join(sorted(left_open))}: rolled back"
            outcome = Retry(failure=Failure(type="task.transaction_left_open", message=text), delay=backoff(message))
    _look_after_connections()
    return outcome


def failure_of(error: BaseException, *, kind: str | None = None) -> Failure:
    """The error as it is kept: bounded, and without the characters that PostgreSQL refuses."""
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    trace = _trace(error)
    if len(trace) > TRACEBACK_CHARACTERS:
        trace = f"…\n{trace[-TRACEBACK_CHARACTERS:]}"
    return Failure(
        type=kind or _storable(name)[:TYPE_CHARACTERS],
        message=_storable(_text(error)[:MESSAGE_CHARACTERS])[:MESSAGE_CHARACTERS],
        traceback=_storable(trace),
    )


def backoff(message: Message) -> timedelta:
    """How long the next attempt waits: the task's or the setting's delay, doubled per attempt, jittered, capped."""
    conf = queue_settings()
    try:
        own = get_task(message.task).retry_backoff_seconds
    except UnknownTask:
        own = None
    base = conf.retry_backoff_seconds if own is None else own
    doubled = base * 2 ** min(message.attempts - 1, 60)
    return _bounded(min(doubled * random.uniform(1, 1 + JITTER), conf.retry_backoff_max_seconds))


def _outcome_of_returned(message: Message, value: Json) -> Outcome:
    """A result that cannot be kept is final: running the task again would return it again."""
    if not keeps_result(message.task):
        return Success()
    try:
        return Success(value=plain_result(value, max_bytes=queue_settings().max_result_bytes))
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
        return Retry(failure=failure_of(raised.__cause__ or raised), delay=_asked_delay(raised, message))
    return Retry(failure=failure_of(raised), delay=backoff(message))


def _asked_delay(raised: RetryLater, message: Message) -> timedelta:
    try:
        return backoff(message) if raised.delay_seconds is None else _bounded(float(raised.delay_seconds))
    except OverflowError:
        return _bounded(LONGEST_DELAY_SECONDS)
    except (TypeError, ValueError):
        return backoff(message)


def _bounded(seconds: float) -> timedelta:
    return timedelta(seconds=min(max(0.0, seconds), LONGEST_DELAY_SECONDS))


def _in_transaction() -> set[str]:
    return {one.alias for one in connections.all(initialized_only=True) if one.in_atomic_block}


def _discard(aliases: set[str]) -> None:
    """The connection object too: Django's believes for ever that it is inside the block."""
    for alias in aliases:
        connections[alias].close()
        del connections[alias]


def _look_after_connections() -> None:
    try:
        close_old_connections()
    except Exception:
        logger.warning("task.connection_not_closed", exc_info=True)  # the task's outcome stands all the same


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as second:  # noqa: BLE001 - an exception's own __str__ may be what is broken
        return f"(its __str__ raised {type(second).__name__})"


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as second:  # noqa: BLE001 - so may be its __cause__ or its notes
        return f"(its traceback could not be written: {type(second).__name__})"


def _storable(text: str) -> str:
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
