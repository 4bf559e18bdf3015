"""The tasks of the project's current Celery app."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from celery import Task, current_app

from pg_queue.celery.execution import run
from pg_queue.tasks import TaskInfo, summary

MOST_ATTEMPTS = 32767
"""What the message's column holds; stands for Celery's `max_retries=None`, which never gives up."""


def celery_tasks() -> dict[str, TaskInfo]:
    """Every task of the current app by its Celery name, except Celery's own."""
    found = current_app.tasks
    return {name: _info(name, task) for name, task in found.items() if not name.startswith("celery.")}


def _info(name: str, task: Task[..., Any]) -> TaskInfo:
    return TaskInfo(
        name=name,
        signature=str(inspect.signature(task.run)),
        doc=summary(task.run),
        source="celery",
        max_attempts=_max_attempts(task),
        time_limit_seconds=getattr(task, "time_limit", None),
        keep_result=not getattr(task, "ignore_result", False),
        run=partial(run, task),
    )


def _max_attempts(task: Task[..., Any]) -> int | None:
    """Celery counts retries, the queue executions. Celery's untouched default is taken for "not said"."""
    if task.max_retries is None:
        return MOST_ATTEMPTS
    return None if task.max_retries == Task.max_retries else min(task.max_retries + 1, MOST_ATTEMPTS)
