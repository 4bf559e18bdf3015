"""A Celery task in a message of ours: a schedule's, or one that `pg_queue.api.enqueue` has stored.

Celery's tracer runs it, with its hooks, signals and result backend; the attempts are the message's. What it raises is a
retry to Celery as long as attempts are left, and a failure at the last one.
"""

from __future__ import annotations

from typing import Any, cast

from billiard.einfo import ExceptionInfo
from celery import states
from celery.app.trace import IGNORED, REJECTED

from pg_queue.celery.envelope import celery_priority
from pg_queue.celery.execution.tracing import AnyTask, Execution, trace
from pg_queue.domain import Message
from pg_queue.errors import GiveUp, RetryLater


def run(task: AnyTask, message: Message) -> Any:
    """Return what it returns. Raises: RetryLater for `self.retry`; GiveUp for what must not be tried again; its own."""
    execution = Execution(
        task=task,
        message=message,
        is_ours=True,
    )
    traced = trace(execution, request_of(message))
    if execution.raised is not None:
        raise execution.raised
    if execution.asked is not None:
        delay, cause = execution.asked
        raise RetryLater(delay_seconds=delay) from cause
    if traced.info is None:
        return _returned(traced.retval)
    return _ended(execution, traced.info.state, traced.info.retval)


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
        "is_eager": False,
        "delivery_info": {
            "exchange": "",
            "routing_key": message.queue,
            "priority": celery_priority(message.priority),
            "redelivered": message.attempts > 1,
        },
    }


def _returned(value: Any) -> Any:
    if isinstance(value, ExceptionInfo):  # Celery failed around the task, and could not say so to its backend
        raise cast(BaseException, value.exception)
    return value


def _ended(execution: Execution, state: str, raised: BaseException) -> None:
    if state == IGNORED:
        return
    if state == REJECTED and getattr(raised, "requeue", False):
        raise RetryLater(str(raised)) from raised
    if state == states.RETRY:  # the task has raised Celery's own exception, past `self.retry`
        raise RetryLater(delay_seconds=None) from raised
    if state == REJECTED or execution.is_final:
        raise GiveUp(str(raised)) from raised
    raise raised
