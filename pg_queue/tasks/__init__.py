"""Tasks: how a project declares them, and what a worker knows of them.

`registry` has every task that a message may name.
"""

from pg_queue.tasks.registry import (
    TaskInfo,
    current_message,
    execute,
    get_task,
    keeps_result,
    summary,
    task,
    tasks,
)

__all__ = [
    "TaskInfo",
    "current_message",
    "execute",
    "get_task",
    "keeps_result",
    "summary",
    "task",
    "tasks",
]
