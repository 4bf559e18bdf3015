"""Celery's own tracer around a task, made to tell the task's body from what Celery does after it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from celery import Task
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject, Retry

from pg_queue.celery.execution.limits import let_through
from pg_queue.domain import Message
from pg_queue.errors import GiveUp, TransactionLeftOpen
from pg_queue.tasks.following import holding, sending
from pg_queue.tasks.transactions import discard, in_transaction, left_open

AnyTask = Task[..., Any]


@dataclass(slots=True, kw_only=True, eq=False)
class Execution:
    """One execution of a Celery task, as long as it lasts."""

    task: AnyTask
    message: Message
    is_ours: bool
    """The message is no Celery message: its attempts are counted, and it is tried again, as any message of ours."""
    is_inside: bool = False
    """The task's body was entered: what it calls directly is no task's body."""
    is_final: bool = False
    """No further attempt is wanted, whatever the message permits."""
    asked: tuple[float | None, BaseException | None] | None = None
    """`self.retry` of a message that is ours: the delay in seconds (None: the backoff), and the cause."""
    raised: Exception | None = None
    """What the body of a message that is ours raised, where it is to be tried again."""

    @property
    def is_last(self) -> bool:
        """No attempt is left, or none is wanted."""
        return self.is_final or self.message.attempts >= self.message.max_attempts


@dataclass(frozen=True, slots=True)
class _Built:
    task: AnyTask
    process_id: int
    trace: Callable[..., Any]


_running: ContextVar[Execution | None] = ContextVar("pg_queue_celery_execution", default=None)
_tracers: dict[str, _Built] = {}


def trace(execution: Execution, request: Mapping[str, Any]) -> Any:
    """Run the task; `celery.app.trace.trace_ok_t`: what it returned, what else became of it, seconds, a text.

    Raises: what Celery could not record, such as the error of a result backend that does not answer.
    """
    tracer = _tracer(execution.task)
    token = _running.set(execution)
    try:
        with holding():
            return tracer(request["id"], execution.message.args, execution.message.kwargs, request)
    finally:
        _running.reset(token)


def execution_of(task: AnyTask) -> Execution | None:
    """The execution of this task that runs in this thread; None: it is called by other means."""
    found = _running.get()
    return found if found is not None and found.task is task else None


def is_native() -> bool:
    """Whether a task of Celery's runs in this thread, by a worker of ours."""
    return _running.get() is not None


def _tracer(task: AnyTask) -> Callable[..., Any]:
    built = _tracers.get(task.name)
    if built is None or built.task is not task or built.process_id != os.getpid():
        _instrument(task)
        built = _Built(task, os.getpid(), build_tracer(task.name, task, app=task.app, loader=task.app.loader))
        _tracers[task.name] = built
    return built.trace


def _instrument(task: AnyTask) -> None:
    """Put ours around what the task's body, `self.retry` and `self.replace` call: idle outside of our executions."""
    from pg_queue.celery.execution.canvas import replacing, retrying, signing

    if "_downbeat_run" in task.__dict__:
        return
    task._downbeat_run = task.run  # type: ignore[attr-defined]
    task.run = _body(task, task.run)  # type: ignore[method-assign]
    task.retry = retrying(task, task.retry)  # type: ignore[method-assign]
    task.replace = replacing(task, task.replace)  # type: ignore[method-assign]
    task.signature_from_request = signing(task, task.signature_from_request)  # type: ignore[method-assign]


def _body(task: AnyTask, run: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(run)
    def body(*args: Any, **kwargs: Any) -> Any:
        execution = execution_of(task)
        if execution is None or execution.is_inside:
            return run(*args, **kwargs)
        execution.is_inside = True
        with sending(), _tried_again(execution), _closed(), let_through():
            return run(*args, **kwargs)

    return body


@contextmanager
def _closed() -> Iterator[None]:
    """A transaction that the body leaves open is rolled back before anything is sent or stored, and is its failure."""
    before = in_transaction()
    try:
        yield
    except BaseException:
        discard(in_transaction() - before)
        raise
    if aliases := in_transaction() - before:
        discard(aliases)
        raise TransactionLeftOpen(left_open(aliases))


@contextmanager
def _tried_again(execution: Execution) -> Iterator[None]:
    """What a message of ours fails with is a retry to Celery and to the task's hooks, as long as attempts are left."""
    try:
        yield
    except (Ignore, Reject, Retry, GiveUp):
        raise
    except Exception as error:
        if not execution.is_ours or execution.is_last:
            raise
        execution.raised = error
        raise Retry(exc=error) from error
