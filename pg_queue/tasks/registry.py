"""The tasks that messages may name: the project's `@task` functions and its Celery tasks, in one registry.

A name in a message resolves here or not at all: a row can never name code that the project did not declare. Tasks are
found in the `tasks` module of every installed app, at the first lookup; Celery's are those of the current Celery app.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, overload

from django.utils.module_loading import autodiscover_modules

from pg_queue.domain import Message
from pg_queue.errors import UnknownTask

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """What the registry knows of a task."""

    name: str
    signature: str
    """As `inspect.signature` prints it, without the bound `self` of a Celery task."""
    doc: str
    """The docstring's first paragraph, on one line."""
    source: Literal["downbeat", "celery"]
    max_attempts: int | None = None
    """Executions in all; None: `PG_QUEUE["MAX_ATTEMPTS"]`."""
    retry_backoff_seconds: float | None = None
    """Delay before the second attempt, doubled for each one after; None: `PG_QUEUE["RETRY_BACKOFF_SECONDS"]`."""
    time_limit_seconds: float | None = None
    """An execution that takes longer is killed; None: `PG_QUEUE["TASK_TIME_LIMIT_SECONDS"]`."""
    keep_result: bool = True
    """False: fire and forget. What it returns is kept nowhere; whether it succeeded is."""
    run: Callable[[Message], Any] = field(repr=False, compare=False)
    """Executes it with a message's arguments in this process; what it raises passes through."""


_registered: dict[str, TaskInfo] = {}
_celery: dict[str, TaskInfo] = {}
_discovery = threading.RLock()
_discovered = False
_current: ContextVar[Message | None] = ContextVar("pg_queue_message", default=None)


@overload
def task(name: Function) -> Function: ...
@overload
def task(
    name: str | None = None,
    *,
    max_attempts: int | None = None,
    retry_backoff_seconds: float | None = None,
    time_limit_seconds: float | None = None,
    keep_result: bool = True,
) -> Callable[[Function], Function]: ...
def task(
    name: str | Function | None = None,
    *,
    max_attempts: int | None = None,
    retry_backoff_seconds: float | None = None,
    time_limit_seconds: float | None = None,
    keep_result: bool = True,
) -> Any:
    """Register a function as a task, and return the function itself with the attribute `task_name`.

    `name` None: the module's name, a dot, the function's. `@task` without parentheses works too. See `TaskInfo` for
    the other parameters. A second function of the same name and another origin is refused.

    Raises: ValueError for a name that is taken.
    """

    def register(function: Function, given: str | None = None) -> Function:
        info = TaskInfo(
            name=given or f"{function.__module__}.{function.__qualname__}",
            signature=str(inspect.signature(function)),
            doc=summary(function),
            source="downbeat",
            max_attempts=max_attempts,
            retry_backoff_seconds=retry_backoff_seconds,
            time_limit_seconds=time_limit_seconds,
            keep_result=keep_result,
            run=lambda message: function(*message.args, **message.kwargs),
        )
        _add(info, function)
        function.task_name = info.name  # type: ignore[attr-defined]
        return function

    if callable(name):
        return register(name)
    return lambda function: register(function, name)


def get_task(name: str) -> TaskInfo:
    """The task of this name. Raises `UnknownTask`, with the names that look like it."""
    found = _registered.get(name) or _celery.get(name)
    if found is None:
        known = _all()
        found = known.get(name)
        if found is None:
            raise UnknownTask(name, tuple(get_close_matches(name, known)))
    return found


def tasks() -> list[TaskInfo]:
    """All tasks, by name."""
    return [info for _, info in sorted(_all().items())]


def keeps_result(name: str) -> bool:
    """False for a fire-and-forget task. One that is not registered here counts as one that keeps its results."""
    try:
        return get_task(name).keep_result
    except UnknownTask:
        return True


def current_message() -> Message | None:
    """The message that this thread is executing; None outside of an execution.

    Its `id` is the same on every attempt: use it as an idempotency key towards other systems.
    """
    return _current.get()


def execute(message: Message) -> Any:
    """Run the message's task in this process and return what it returns. Raises `UnknownTask`, and what it raises."""
    info = get_task(message.task)
    token = _current.set(message)
    try:
        return info.run(message)
    finally:
        _current.reset(token)


def summary(function: Callable[..., Any]) -> str:
    """The first paragraph of a docstring, on one line; empty without one."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def _add(info: TaskInfo, function: Callable[..., Any]) -> None:
    taken = _origins.get(info.name)
    origin = f"{function.__module__}.{function.__qualname__}"
    if taken not in (None, origin):
        raise ValueError(f"task: expected a name of its own for {origin}, got: {info.name!r}, which is {taken}")
    _origins[info.name] = origin
    _registered[info.name] = info


_origins: dict[str, str] = {}


def _all() -> dict[str, TaskInfo]:
    _discover()
    _celery.update(_celery_tasks())
    return _celery | _registered


def _discover() -> None:
    global _discovered  # once per process: the modules stay imported
    with _discovery:
        if not _discovered:
            autodiscover_modules("tasks")
            _discovered = True


def _celery_tasks() -> dict[str, TaskInfo]:
    try:
        from pg_queue.celery.registry import celery_tasks
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "celery":
            raise
        return {}
    return celery_tasks()
