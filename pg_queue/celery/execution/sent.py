"""A message that Celery has sent: whatever becomes of it is what becomes of it at a worker of Celery's.

| Celery's state | our message |
|---|---|
| SUCCESS | succeeded; gone, where the result is to be ignored |
| FAILURE | failed at once, a dead letter: Celery tries nothing again that has not asked for it |
| RETRY, or replaced | gone: the message that goes on has its id, enqueued by the transaction that removed this one |
| IGNORED | gone |
| REJECTED | failed; with `requeue` it waits again |
| REVOKED (expired) | failed, as `message.expired` |

What Celery's tracer sends (callbacks, errbacks, the next of a chain, a retry) is held, and enqueued by the transaction
that settles the message. So a crash at any instant leaves either the message, or what follows from it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import states
from celery.app.trace import IGNORED

from pg_queue.celery.execution import lost
from pg_queue.celery.execution.requests import NativeRequest
from pg_queue.celery.execution.tracing import AnyTask, Execution, trace
from pg_queue.domain import Death, Failure, Json, Message, Retry, Success
from pg_queue.errors import GiveUp, InvalidMessage
from pg_queue.payload import plain_result
from pg_queue.settings import queue_settings
from pg_queue.tasks.following import holding

REQUEUED = "celery.requeued"
"""The failure of a message whose task has raised `Reject(requeue=True)`."""
EXPIRED = "message.expired"


def run(task: AnyTask, message: Message) -> Any:
    """The outcome of its execution. Raises: GiveUp from what the task has raised."""
    request = NativeRequest(task, message)
    with holding():
        if lost.is_lost(message) and (ended := lost.end(request, message)) is not None:
            return ended
        if _has_expired(request, message):
            request.announce_expired()
            text = f"it was to begin until {request.expires.isoformat()}, and was claimed at {message.started_at}"
            return Death(failure=Failure(type=EXPIRED, message=text))
    execution = Execution(
        task=task,
        message=message,
        is_ours=False,
    )
    try:
        traced = trace(execution, request.for_tracer)
    except (SystemExit, KeyboardInterrupt, MemoryError) as error:
        with holding():
            ended = lost.conclude(request, message, f"the task raised {type(error).__name__}: {error}")
        return ended or _requeued(f"{type(error).__name__}: {error}")
    return _outcome(request, traced)


def _has_expired(request: NativeRequest, message: Message) -> bool:
    """By the store's clock, which has said when the message was claimed."""
    return bool(request.expires) and message.started_at is not None and message.started_at > request.expires


def _outcome(request: NativeRequest, traced: Any) -> Any:
    info, returned = traced.info, traced.retval
    if info is None and not isinstance(returned, ExceptionInfo):
        return Success(keep=False) if request.ignore_result else _kept(returned)
    with holding():
        request.on_success((1, returned, traced.runtime))
    if request.is_requeued:
        return _requeued(str(info.retval))
    if info is not None and info.state in (states.RETRY, IGNORED):
        return Success(keep=False)
    raised = returned.exception if info is None else info.retval
    raise GiveUp(str(raised)) from raised


def _requeued(text: str) -> Retry:
    return Retry(failure=Failure(type=REQUEUED, message=text), delay=timedelta())


def _kept(value: Json) -> Success:
    """Celery's backend has the result, as far as there is one: what only its serializers can keep is no failure."""
    try:
        return Success(value=plain_result(value, max_bytes=queue_settings().max_result_bytes))
    except InvalidMessage:
        return Success()
