"""The tasks of the project's current Celery app."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, NoReturn

from celery import Task, current_app
from celery.exceptions import SoftTimeLimitExceeded

from pg_queue.celery.envelope import CELERY, RAW_TASK, read_envelope, read_payload
from pg_queue.celery.execution import run
from pg_queue.celery.execution.lost import is_lost
from pg_queue.domain import Message
from pg_queue.errors import GiveUp
from pg_queue.tasks import TaskInfo, summary

MOST_ATTEMPTS = 32767
"""What the message's column holds; stands for Celery's `max_retries=None`, which never gives up."""

TELLING_SECONDS = 30.0
"""More than its limits an execution may take that first has to tell what became of the one before it, which was cut
off: else the very limit that has ended that one would end this one too, and each after it."""


def celery_tasks() -> dict[str, TaskInfo]:
    """Every task of the current app by its Celery name; Celery's own (`celery.chunks`) are internal."""
    found = {name: _info(name, task) for name, task in current_app.tasks.items()}
    return {**found, RAW_TASK: _raw()}


def _info(name: str, task: Task[..., Any]) -> TaskInfo:
    return TaskInfo(
        name=name,
        signature=str(inspect.signature(task.run)),
        doc=summary(task.run),
        source="celery",
        max_attempts=_max_attempts(task),
        time_limit_seconds=getattr(task, "time_limit", None),
        soft_time_limit_seconds=getattr(task, "soft_time_limit", None),
        soft_time_limit_error=SoftTimeLimitExceeded,
        keep_result=not getattr(task, "ignore_result", False),
        is_internal=name.startswith("celery."),
        brought_limits=partial(_brought_limits, task),
        run=partial(run, task),
    )


def _brought_limits(task: Task[..., Any], message: Message) -> tuple[float | None, float | None]:
    """Those of `apply_async(time_limit=..., soft_time_limit=...)`, or its task's own."""
    if CELERY not in message.headers:
        return None, None
    hard, soft = read_envelope(message).headers["timelimit"] or (None, None)
    hard, soft = hard or getattr(task, "time_limit", None), soft or getattr(task, "soft_time_limit", None)
    more = TELLING_SECONDS if is_lost(message) else 0.0
    return (None if hard is None else float(hard) + more), (None if soft is None else float(soft) + more)


def _max_attempts(task: Task[..., Any]) -> int | None:
    """Celery counts retries, the queue executions. Celery's untouched default is taken for "not said"."""
    if task.max_retries is None:
        return MOST_ATTEMPTS
    return None if task.max_retries == Task.max_retries else min(task.max_retries + 1, MOST_ATTEMPTS)


def _raw() -> TaskInfo:
    return TaskInfo(
        name=RAW_TASK,
        signature="()",
        doc="A payload that only Celery's own workers can read.",
        source="celery",
        is_internal=True,
        run=_refuse_raw,
    )


def _refuse_raw(message: Message) -> NoReturn:
    """Raises: GiveUp. Nothing that is no JSON is decoded here, least of all a pickle."""
    payload = read_payload(message)
    raise GiveUp(
        f"task {payload['headers'].get('task')!r}: expected a JSON message (task_serializer = 'json', no compression), "
        f"got: {payload['content-type']}; a worker of Celery's can run it"
    )
