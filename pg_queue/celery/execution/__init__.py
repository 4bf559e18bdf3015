"""Celery's tasks, run by our own workers: claim, lease, limits and settlement are ours, everything else is Celery's.

A message that Celery has sent (`headers["celery"]`, see `envelope`) is executed by Celery's tracer with the request
that a worker of Celery's would make of it: see `sent`. One of ours, such as a schedule's, is executed by the same
tracer, with attempts and outcome of ours: see `ours`.
"""

from __future__ import annotations

from typing import Any, NoReturn

from celery import current_app, signals
from celery.app.task import Context
from celery.exceptions import NotRegistered

from pg_queue.celery.envelope import CELERY, read_envelope
from pg_queue.celery.execution import ours, sent
from pg_queue.celery.execution.limits import held_back
from pg_queue.celery.execution.processes import begin_once
from pg_queue.celery.execution.publishing import guard, send_chords_at_once
from pg_queue.celery.execution.tracing import AnyTask
from pg_queue.domain import Message
from pg_queue.errors import GiveUp, UnknownTask
from pg_queue.settings import queue_settings
from pg_queue.tasks.following import holding

__all__ = ["run", "run_unknown"]


def run(task: AnyTask, message: Message) -> Any:
    """What the task returned, or the outcome of its message. Raises: see `ours.run` and `sent.run`."""
    with held_back():
        return _run(task, message)


def _run(task: AnyTask, message: Message) -> Any:
    begin_once(task.app)
    guard(task.app)
    send_chords_at_once(task.backend)
    return (sent if CELERY in message.headers else ours).run(task, message)


def run_unknown(message: Message) -> NoReturn:
    """A message that Celery has sent names a task that is not registered here.

    Raises: UnknownTask, to be tried again: another worker may know it, or this one after its next start; GiveUp when it
    was tried `MAX_ATTEMPTS` times: Celery's backend, errbacks and chord are then told.
    """
    if message.attempts < queue_settings().max_attempts:
        raise UnknownTask(message.task)
    envelope = read_envelope(message)
    error, app = NotRegistered(message.task), current_app
    said = {**envelope.headers, **envelope.embed, "delivery_info": {}}
    request: Any = Context(said, args=envelope.args, kwargs=envelope.kwargs)
    send_chords_at_once(app.backend)
    with holding():
        app.backend.mark_as_failure(request.id, error, request=request, store_result=not request.ignore_result)
        signals.task_unknown.send(sender=None, message=envelope, exc=error, name=message.task, id=request.id)
    raise GiveUp(message.task) from error
