"""Tasks: how a project declares them, and what a worker knows of them.

`registry` has every task that a message may name, `policy` what may be said of one, `calls` how it is called, `context`
what it sees of its execution, `validation` checks by its type hints; `django` has those of the `django.tasks` API.
`PgQueueBackend` is the backend that `TASKS` names.
"""

from importlib import import_module
from typing import Any

from pg_queue.domain import Progress
from pg_queue.tasks.context import TaskContext
from pg_queue.tasks.policy import Backoff, Delivery, RetryPolicy, TaskOptions
from pg_queue.tasks.registry import (
    TaskInfo,
    current_context,
    current_message,
    declared_tasks,
    execute,
    execute_async,
    get_task,
    keeps_result,
    keeps_state,
    register,
    summary,
    tasks,
)

__all__ = [
    "Backoff",
    "Delivery",
    "Progress",
    "RetryPolicy",
    "TaskContext",
    "TaskInfo",
    "TaskOptions",
    "current_context",
    "current_message",
    "declared_tasks",
    "execute",
    "execute_async",
    "get_task",
    "keeps_result",
    "keeps_state",
    "register",
    "summary",
    "tasks",
]


def __getattr__(name: str) -> Any:
    """`PgQueueBackend`: above everything here, and of a package that a project without it need not have."""
    if name == "PgQueueBackend":
        return import_module("pg_queue.task_backend").backend_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
