"""`self.retry` and `self.replace` where our worker runs the task.

In a Celery message both are Celery's own: they publish, and what they publish is held until the message is settled, so
that neither a rollback of the task's transaction nor a crash in between can lose it. In a message of ours (a
schedule's, or one of `pg_queue.api.enqueue`) a retry is another attempt of the same message, and what would need
another message is refused.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from celery import Task
from celery.exceptions import Retry
from celery.utils.time import maybe_make_aware

from pg_queue.celery.execution.tracing import AnyTask, Execution, execution_of
from pg_queue.domain import Message
from pg_queue.errors import CanvasRefused
from pg_queue.tasks.following import holding_all

_SENT_BY_CELERY = "a message that Celery has sent (CELERY_BROKER_URL = 'downbeat://' and .delay())"


def retrying(task: AnyTask, retry: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's `retry`, or in a message of ours its checks and a note of what was asked."""

    @functools.wraps(retry)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        execution = execution_of(task)
        if execution is None:
            return retry(*args, **kwargs)
        if execution.is_ours:
            return _retry_ours(execution, retry, *args, **kwargs)
        with holding_all():
            return retry(*args, **kwargs)

    return wrapped


def replacing(task: AnyTask, replace: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's `replace`; refused in a message of ours, whose end somebody waits for under its own id."""

    @functools.wraps(replace)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        execution = execution_of(task)
        if execution is None:
            return replace(*args, **kwargs)
        if execution.is_ours:
            execution.is_final = True
            raise _refused(task, "replace", _SENT_BY_CELERY, "a message of Downbeat's own")
        with holding_all():
            return replace(*args, **kwargs)

    return wrapped


def signing(task: AnyTask, signature_from_request: Callable[..., Any]) -> Callable[..., Any]:
    """What `retry` sends. In a message of ours nothing is: its next attempt is the same message."""

    @functools.wraps(signature_from_request)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        signature = signature_from_request(*args, **kwargs)
        execution = execution_of(task)
        if execution is not None and execution.is_ours:
            signature.apply_async = lambda *args, **kwargs: None
        return signature

    return wrapped


def _retry_ours(
    execution: Execution,
    retry: Callable[..., Any],
    args: Any = None,
    kwargs: Any = None,
    exc: BaseException | None = None,
    throw: bool = True,
    eta: datetime | None = None,
    countdown: float | None = None,
    max_retries: int | None = None,
    **options: Any,
) -> Any:
    task, message = execution.task, execution.message
    execution.asked = (_seconds(task, eta, countdown), exc or sys.exception())
    try:
        _check_unchanged(task, args=(args, message.args), kwargs=(kwargs, message.kwargs))
        _check_unchanged(task, **{name: (given, _own_option(message, name)) for name, given in options.items()})
        limit = _most_retries(execution, max_retries)
        return retry(exc=exc, throw=throw, eta=eta, countdown=countdown, max_retries=limit)
    except Retry:
        raise
    except BaseException:
        execution.asked, execution.is_final = None, True
        raise
    finally:
        # Celery leaves it on the task, for `autoretry_for` to read: but ours is of this message alone.
        task.__dict__.pop("override_max_retries", None)


def _seconds(task: AnyTask, eta: datetime | None, countdown: float | None) -> float:
    if eta is not None:
        aware: datetime = maybe_make_aware(eta, task.app.timezone)
        return (aware - datetime.now(UTC)).total_seconds()
    return float(task.default_retry_delay if countdown is None else countdown)


def _most_retries(execution: Execution, given: int | None) -> int:
    """The fewest of: what was asked for, the task's own where it has said so, and the message's attempts."""
    own = execution.task.max_retries
    said = [number for number in (given, None if own == Task.max_retries else own) if number is not None]
    return min([*said[:1], execution.message.max_attempts - 1])


def _own_option(message: Message, name: str) -> object:
    return {"queue": message.queue, "routing_key": message.queue}.get(name)


def _check_unchanged(task: AnyTask, **parts: tuple[Any, Any]) -> None:
    for name, (given, own) in parts.items():
        if given is not None and _plain(given) != _plain(own):
            raise _refused(task, f"retry({name}=...)", f"none, or {_SENT_BY_CELERY}", repr(given))


def _plain(value: Any) -> Any:
    """Tuples as JSON has them."""
    return list(value) if isinstance(value, tuple) else value


def _refused(task: AnyTask, what: str, expected: str, got: str) -> CanvasRefused:
    return CanvasRefused(f"task {task.name!r}, {what}: expected {expected}, got: {got}")
