"""One execution of a Celery task: its request in place, its retry turned into the queue's, nothing sent anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn

from celery import Task, signals
from celery._state import _task_stack  # type: ignore[attr-defined]
from celery.exceptions import Ignore, Reject
from celery.utils.imports import qualname

from pg_queue.domain import Message
from pg_queue.errors import GiveUp, RetryLater


def run(task: Task[..., Any], message: Message) -> Any:
    """Call the task with the message's arguments, `self.request` and `current_task` as a Celery worker sets them.

    The task's signals `task_prerun` and `task_postrun` are sent. Canvas (callbacks, chords, `replace`) is not carried
    out: a message has none. Raises: RetryLater for `self.retry` and `autoretry_for`; GiveUp for `Reject`.
    """
    call = task if _has_own_call(task) else task.run
    sent = {"task_id": str(message.id), "task": task, "args": message.args, "kwargs": message.kwargs}
    with _request(task, message), _native_retry(task):
        signals.task_prerun.send(sender=task, **sent)
        returned = None
        try:
            returned = call(*message.args, **message.kwargs)
        except Ignore:
            return None
        except Reject as rejected:
            raise GiveUp(str(rejected)) from rejected
        finally:
            signals.task_postrun.send(sender=task, retval=returned, state=None, **sent)
        return returned


def request_of(message: Message) -> dict[str, Any]:
    """What `self.request` says: Celery's names for what the message holds."""
    return {
        "id": str(message.id),
        "root_id": str(message.id),
        "correlation_id": str(message.id),
        "task": message.task,
        "args": message.args,
        "kwargs": message.kwargs,
        "retries": message.attempts - 1,
        "headers": dict(message.headers),
        "hostname": message.worker,
        "eta": None,
        "called_directly": False,
        "delivery_info": {
            "exchange": "",
            "routing_key": message.queue,
            "priority": message.priority,
            "redelivered": message.attempts > 1,
        },
    }


@contextmanager
def _request(task: Task[..., Any], message: Message) -> Iterator[None]:
    task.push_request(**request_of(message))
    _task_stack.push(task)
    try:
        yield
    finally:
        _task_stack.pop()
        task.pop_request()


@contextmanager
def _native_retry(task: Task[..., Any]) -> Iterator[None]:
    """Celery's own `retry` publishes a new message to its broker; for as long as the task runs here, ours stands in."""
    task.retry = partial(_retry, task)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del task.retry


def _retry(
    task: Task[..., Any],
    args: object = None,
    kwargs: object = None,
    exc: BaseException | None = None,
    throw: bool = True,
    eta: datetime | None = None,
    countdown: float | None = None,
    max_retries: int | None = None,
    **options: object,
) -> NoReturn:
    """Stands in for `Task.retry`. The arguments stay those of the message; `throw=False` raises all the same."""
    if eta is not None:
        countdown = (eta - datetime.now(UTC)).total_seconds()
    if countdown is None:
        countdown = task.default_retry_delay
    if max_retries is not None and task.request.retries >= max_retries:
        raise exc or task.MaxRetriesExceededError(f"{qualname(task)}: {max_retries} retries are used up")
    raise RetryLater(delay_seconds=max(0.0, float(countdown))) from exc


def _has_own_call(task: Task[..., Any]) -> bool:
    return type(task).__call__ is not Task.__call__
