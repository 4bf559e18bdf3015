"""What becomes of a message that Celery has sent, whose execution before this one has no end.

Its process was killed, or its worker, its machine or its time limit has ended it. Celery's rules decide, carried out by
its own code: with `acks_late` it is run again (with `reject_on_worker_lost` also when the task itself has killed its
process), else it has failed, as `WorkerLostError` or `TimeLimitExceeded`, for backend, errbacks, chord and hooks.
"""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionInfo
from celery import signals, signature, states
from celery.exceptions import TimeLimitExceeded, WorkerLostError

from pg_queue.celery.execution.requests import NativeRequest
from pg_queue.domain import Death, Failure, Json, Message, Success
from pg_queue.settings import queue_settings

_BEGAN_NOT = {"celery.requeued", "worker.unknown_task"}
"""Failures after which a message is to be run as if for the first time."""
_ONLY_FETCHED = ":celery ran out"
"""How the failure of a message ends that vanished with a worker of Celery's. That acknowledges what it begins: so it
had not begun this one, or it is to be begun again."""
_OUTSIDE = {"worker.vanished", "worker.stopped"}
"""Failures that are not the task's doing: a broker would simply deliver its message again."""


def is_lost(message: Message) -> bool:
    """Whether an execution has begun before this one, and nobody knows its end."""
    if message.attempts < 2:
        return False
    error = message.error  # none: a worker of Celery's has given it back
    return error is not None and error.type not in _BEGAN_NOT and not error.message.endswith(_ONLY_FETCHED)


def end(request: NativeRequest, message: Message) -> Success | Death | None:
    """The outcome of the message; None: it is to be run again."""
    kind = "" if message.error is None else message.error.type
    if kind == "worker.time_limit":
        return _overran(request, message)
    if request.task.acks_late and kind in _OUTSIDE and not _is_too_often(message):
        return None
    if (stored := _stored_success(request)) is not None:
        return _go_on(request, stored["result"])
    return conclude(request, message, _said(message))


def conclude(request: NativeRequest, message: Message, text: str) -> Success | Death | None:
    """Let Celery say what follows from a lost worker; None: it is to be run again."""
    error = WorkerLostError(text)
    if _is_too_often(message):
        _fail(request, error)
        return _death(error)
    request.on_failure(_info_of(error))
    if request.is_requeued:
        return None
    return Success(keep=False) if request.is_retried else _death(error)


def _overran(request: NativeRequest, message: Message) -> Success | Death | None:
    limit = request.time_limits[0] or request.task.time_limit
    error = TimeLimitExceeded(limit)
    if _is_too_often(message):
        _fail(request, error)
        return _death(error)
    request.on_timeout(False, limit or 0)
    return None if request.is_requeued else _death(error)


def _stored_success(request: NativeRequest) -> dict[str, Any] | None:
    """What Celery's backend keeps of a success; None: of none that anybody could know."""
    if request.ignore_result:
        return None
    try:
        kept: dict[str, Any] = request.task.backend.get_task_meta(request.id, cache=False)
    except Exception:  # noqa: BLE001 - no backend, or one that does not answer: nobody knows
        return None
    return kept if kept.get("status") == states.SUCCESS else None


def _go_on(request: NativeRequest, value: Json) -> Success:
    """Its result is stored, and what was to follow was lost with its worker: send that, and run nothing again."""
    app, context = request.task.app, request.context
    family: dict[str, Any] = {"parent_id": request.id, "root_id": request.root_id or request.id}
    for callback in context.callbacks or ():
        signature(dict(callback), app=app).apply_async((value,), **family)
    if context.chain:
        signature(context.chain[-1], app=app).apply_async((value,), chain=context.chain[:-1], **family)
    if context.chord:
        request.task.backend.on_chord_part_return(context, states.SUCCESS, value)
    return Success()


def _fail(request: NativeRequest, error: Exception) -> None:
    """What Celery does where it gives up."""
    info = _info_of(error)
    request.task.backend.mark_as_failure(request.id, error, request=request.context, store_result=request.store_errors)
    signals.task_failure.send(
        sender=request.task,
        task_id=request.id,
        exception=error,
        args=request.args,
        kwargs=request.kwargs,
        traceback=info.traceback,
        einfo=info,
    )


def _is_too_often(message: Message) -> bool:
    """Celery would go on for ever with a message that takes every worker down."""
    return message.attempts > queue_settings().max_attempts


def _said(message: Message) -> str:
    return "" if message.error is None else f"{message.error.type}: {message.error.message}"


def _info_of(error: Exception) -> ExceptionInfo:
    try:
        raise error
    except Exception:  # noqa: BLE001 - it is the very one
        return ExceptionInfo()


def _death(error: Exception) -> Death:
    return Death(failure=Failure(type=f"{type(error).__module__}.{type(error).__qualname__}", message=str(error)))
