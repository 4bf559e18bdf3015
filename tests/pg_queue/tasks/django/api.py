"""The API's names, of the flavour that this Django has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import django

if django.VERSION >= (6, 0):
    from django.tasks import TaskContext, default_task_backend, task, task_backends
    from django.tasks.base import Task

    from pg_queue.task_backend.builtin import PgQueueBackend
    from pg_queue.tasks.django.builtin import FLAVOUR

    LOGGER = "django.tasks"
else:
    from django_tasks import TaskContext, default_task_backend, task, task_backends
    from django_tasks.base import Task

    from pg_queue.task_backend.package import PgQueueBackend
    from pg_queue.tasks.django.package import FLAVOUR

    LOGGER = "django_tasks"

__all__ = [
    "FLAVOUR",
    "LOGGER",
    "PgQueueBackend",
    "Task",
    "TaskContext",
    "default_task_backend",
    "task",
    "task_backends",
    "task_with",
]


def task_with(backend: str = "default", **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`@task` with options of ours. Django 6.0's own has no further keywords; 6.1's and the package's have."""
    if django.VERSION[:2] == (6, 0):
        return lambda function: replace(task(backend=backend)(function), **options)
    return task(backend=backend, **options)
