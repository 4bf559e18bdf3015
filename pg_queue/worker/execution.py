"""One execution: what a task's return or raise means for its message."""

from __future__ import annotations

import logging
import traceback
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.db import close_old_connections

from pg_queue.domain import Death, Failure, Json, Message, Retry, Success
from pg_queue.errors import GiveUp, InvalidMessage, PayloadNotJSON, PayloadTooLarge, RetryLater, UnknownTask
from pg_queue.payload import plain_result
from pg_queue.settings import queue_settings
from pg_queue.tasks import Delivery, RetryPolicy, TaskInfo, execute, following, get_task, keeps_result, keeps_state
from pg_queue.tasks.expiry import EXPIRES_AT, expiry_of
from pg_queue.tasks.policy import LONGEST_DELAY_SECONDS, bounded
from pg_queue.tasks.transactions import discard, in_transaction, left_open
from pg_queue.tasks.validation import Refused

logger = logging.getLogger(__name__)

Outcome = Success | Retry | Death

TYPE_CHARACTERS = 255
MESSAGE_CHARACTERS = 2_000
TRACEBACK_CHARACTERS = 16_000


def outcome_of(message: Message, within: AbstractContextManager[object] = nullcontext()) -> Outcome:  # noqa: B008
    """Run the message's task in this process. Whatever it raises, `SystemExit` too, becomes an outcome.

    The task alone runs `within` the context: what that raises counts as raised by the task.

    Django's connections are checked before and after, as around a request; the task runs in autocommit. One that leaves
    a transaction open has failed: nothing of it was committed, and the next task must not run inside it.
    """
    begun_outside = in_transaction()
    with following.execution() as followers:
        try:
            close_old_connections()
            outcome = refusal(message) or outcome_of_returned(message, _run(message, within))
        except BaseException as raised:  # noqa: BLE001 - whatever a task does, its message needs an outcome
            outcome = outcome_of_raised(message, raised)
    if open_still := in_transaction() - begun_outside:
        discard(open_still)
        if isinstance(outcome, Success):
            failure = Failure(type="task.transaction_left_open", message=left_open(open_still))
            outcome = _failed(message, failure)
    _look_after_connections()
    return replace(outcome, followers=tuple(followers)) if followers else outcome


def _run(message: Message, within: AbstractContextManager[object]) -> Any:
    with within:
        return execute(message)


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


def refusal(message: Message) -> Death | None:
    """Why the message may not be begun at all; None: it may.

    A task that is delivered at most once was begun before, where its message has an earlier attempt: that one may have
    come from a process that knew the task by another policy, and stored more attempts.
    """
    if message.attempts > 1 and _is_once(message):
        text = f"the task is delivered {Delivery.AT_MOST_ONCE}, and attempt {message.attempts - 1} had begun"
        return Death(failure=Failure(type="task.begun_before", message=text))
    if EXPIRES_AT not in message.headers or "celery" in message.headers:  # Celery has to be told of the end
        return None
    return _expired(message)


def _expired(message: Message) -> Death | None:
    """By the store's clock, which has said when the message was claimed."""
    try:
        expires_at = expiry_of(message.headers)
    except InvalidMessage as error:  # no enqueue has written it
        return Death(failure=failure_of(error, kind="message.unreadable"))
    if expires_at is None or message.started_at is None or message.started_at <= expires_at:
        return None
    text = f"it was to begin until {expires_at.isoformat()}, and was claimed at {message.started_at.isoformat()}"
    return Death(failure=Failure(type="message.expired", message=text))


def backoff(message: Message) -> timedelta:
    """How long the next attempt waits, by the policy of the message's task."""
    info = _info(message)
    return (RetryPolicy() if info is None else info.retry).delay(message.attempts)


def delay_after_loss(message: Message) -> timedelta:
    """The same where nobody knows how the execution ended. What it means to Celery its next one says, at once."""
    return timedelta() if "celery" in message.headers else backoff(message)


def outcome_of_returned(message: Message, value: Json) -> Outcome:
    """What a returned value means. One that cannot be kept is final: running the task again would return it again."""
    if isinstance(value, Success | Retry | Death):  # Celery's rules have decided
        return value
    if not keeps_result(message.task):
        return Success() if keeps_state(message.task) else Success(keep=False)
    try:
        return Success(value=plain_result(value, max_bytes=queue_settings().max_result_bytes))
    except PayloadNotJSON as error:
        return Death(failure=failure_of(error, kind="task.result_not_json"))
    except PayloadTooLarge as error:
        return Death(failure=failure_of(error, kind="task.result_too_large"))


def outcome_of_raised(message: Message, raised: BaseException) -> Outcome:
    """What an error means, by the policy of the message's task; what the task asked for goes before it."""
    if isinstance(raised, GiveUp):
        return Death(failure=failure_of(raised.__cause__ or raised))
    if isinstance(raised, Refused):
        return Death(failure=failure_of(raised.__cause__ or raised, kind=raised.kind))
    if isinstance(raised, UnknownTask) and raised.name == message.task:
        return Retry(failure=failure_of(raised, kind="worker.unknown_task"), delay=backoff(message))
    if isinstance(raised, RetryLater):
        if _is_once(message):
            return Death(failure=_retry_refused(message, raised))
        return Retry(failure=failure_of(raised.__cause__ or raised), delay=_asked_delay(raised, message))
    info = _info(message)
    if info is not None and not info.retry.permits(raised):
        return Death(failure=failure_of(raised))
    return _failed(message, failure_of(raised))


def _failed(message: Message, failure: Failure) -> Outcome:
    return Death(failure=failure) if _is_once(message) else Retry(failure=failure, delay=backoff(message))


def _retry_refused(message: Message, raised: RetryLater) -> Failure:
    cause = failure_of(raised.__cause__ or raised)
    text = (
        f"expected no RetryLater of {message.task!r}, which is delivered {Delivery.AT_MOST_ONCE}, got: {cause.message}"
    )
    return replace(cause, type="task.retry_refused", message=text[:MESSAGE_CHARACTERS])


def _is_once(message: Message) -> bool:
    info = _info(message)
    return info is not None and info.delivery is Delivery.AT_MOST_ONCE


def _info(message: Message) -> TaskInfo | None:
    try:
        return get_task(message.task)
    except UnknownTask:
        return None


def _asked_delay(raised: RetryLater, message: Message) -> timedelta:
    try:
        return backoff(message) if raised.delay_seconds is None else bounded(float(raised.delay_seconds))
    except OverflowError:
        return bounded(LONGEST_DELAY_SECONDS)
    except (TypeError, ValueError):
        return backoff(message)


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
