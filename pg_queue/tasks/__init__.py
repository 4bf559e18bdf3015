"""Tasks: how a project declares them, and what a worker knows of them.

`registry` has every task that a message may name, `policy` what may be said of one, `calls` how it is called.
"""

from pg_queue.tasks.policy import Backoff, Delivery, RetryPolicy, TaskOptions
from pg_queue.tasks.registry import (
    TaskInfo,
    current_message,
    execute,
    execute_async,
    get_task,
    keeps_result,
    keeps_state,
    summary,
    task,
    tasks,
)

__all__ = [
    "Backoff",
    "Delivery",
    "RetryPolicy",
    "TaskInfo",
    "TaskOptions",
    "current_message",
    "execute",
    "execute_async",
    "get_task",
    "keeps_result",
    "keeps_state",
    "summary",
    "task",
    "tasks",
]
