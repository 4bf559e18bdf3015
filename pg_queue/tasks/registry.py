"""The tasks that messages may name: the project's `@task` functions, its Celery tasks and those of `django.tasks`.

A name in a message resolves here or not at all: a row can never name code that the project did not declare. Tasks are
found in the `tasks` module of every installed app, at the first lookup; Celery's are those of the current Celery app;
those of `django.tasks` are found by their path, see `pg_queue.tasks.django`.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Literal

from django.utils.module_loading import autodiscover_modules

from pg_queue.domain import DEFAULT_PRIORITY, Message
from pg_queue.errors import SoftTimeLimitExceeded, UnknownTask
from pg_queue.tasks.calls import Call
from pg_queue.tasks.context import TaskContext
from pg_queue.tasks.policy import Delivery, RetryPolicy, TaskOptions, declared, declared_hold
from pg_queue.tasks.uniqueness import Unique, unique_of
from pg_queue.tasks.validation import Checks, Validation


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """What the registry knows of a task."""

    name: str
    signature: str
    """As `inspect.signature` prints it, without the bound `self` of a Celery task or a task's context."""
    doc: str
    """The docstring's first paragraph, on one line."""
    source: Literal["downbeat", "celery", "django"]
    queue: str = "default"
    """Where its messages go, where their enqueue does not say; a `NewMessage` and a schedule always do."""
    priority: int = DEFAULT_PRIORITY
    """The same, 1 (last) to 10 (first)."""
    max_attempts: int | None = None
    """Executions in all; None: `PG_QUEUE["MAX_ATTEMPTS"]`."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    """When a failed execution is tried again, and after how long."""
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    """At most once: `max_attempts` is 1, wherever its message comes from."""
    time_limit_seconds: float | None = None
    """An execution that takes longer is killed; None: `PG_QUEUE["TASK_TIME_LIMIT_SECONDS"]`."""
    soft_time_limit_seconds: float | None = None
    """In one that takes longer `soft_time_limit_error` is raised, so that it can tidy up; None:
    `PG_QUEUE["TASK_SOFT_TIME_LIMIT_SECONDS"]`."""
    soft_time_limit_error: type[Exception] = SoftTimeLimitExceeded
    keep_result: bool = True
    """False: what it returns is kept nowhere."""
    keep_state: bool = True
    """False: fire and forget. Once it has succeeded, nothing is kept of the message, where nobody needs its end."""
    expires: timedelta | None = None
    """A message is not begun later than so long after it was due first; None: whenever."""
    unique: Unique | None = None
    """By what messages are the same work, of which only one waits or runs; None: each is its own."""
    validate: Validation = Validation.NONE
    """What is checked by the function's type hints."""
    checks: Checks | None = field(default=None, repr=False, compare=False)
    """What does so; None: nothing is checked."""
    brought_limits: Callable[[Message], tuple[float | None, float | None]] | None = field(
        default=None, repr=False, compare=False
    )
    """The hard and the soft time limit in seconds that a message brings along, before the task's; None: they bring
    none."""
    is_internal: bool = False
    """It is not for a person to choose: `tasks` leaves it out."""
    run: Callable[[Message], Any] = field(repr=False, compare=False)
    """Executes it with a message's arguments in this process, and returns what it returns, or (Celery's alone) the
    outcome of its message; what it raises passes through."""
    run_async: Callable[[Message], Awaitable[Any]] | None = field(default=None, repr=False, compare=False)
    """The same in the event loop that runs here; None: it is no `async def`."""

    def limits_of(self, message: Message) -> tuple[float | None, float | None]:
        """The hard and the soft time limit of an execution of this message, in seconds; None: the setting's."""
        hard, soft = (None, None) if self.brought_limits is None else self.brought_limits(message)
        return (
            self.time_limit_seconds if hard is None else hard,
            self.soft_time_limit_seconds if soft is None else soft,
        )

    @property
    def is_async(self) -> bool:
        """Whether an event loop can run it beside others."""
        return self.run_async is not None


_registered: dict[str, TaskInfo] = {}
_celery: dict[str, TaskInfo] = {}
_discovery = threading.RLock()
_discovered = False
_current: ContextVar[Message | None] = ContextVar("pg_queue_message", default=None)


def register(function: Callable[..., Any], name: str | None, options: TaskOptions) -> TaskInfo:
    """Let messages name this function, `async def` or not; what is known of it as a task.

    `name` None: the module's name, a dot, the function's. See `TaskInfo` and `RetryPolicy` for the options. A second
    function of the same name and another origin is refused. One whose first parameter is annotated with `TaskContext`
    gets that of each execution.

    Raises: ValueError for a name that is taken, and for options that make no sense; TypeError for unknown ones;
    Configuration where `validate` needs what is not installed.
    """
    info = _info(name or f"{function.__module__}.{function.__qualname__}", function, options)
    _add(info, function)
    return info


def get_task(name: str) -> TaskInfo:
    """The task of this name. Raises `UnknownTask`, with the names that look like it."""
    from pg_queue.tasks.django.resolution import info_of, known_info

    found = _registered.get(name) or _celery.get(name) or known_info(name)
    if found is None:
        known = _all()
        found = known.get(name) or info_of(name)
        if found is None:
            raise UnknownTask(name, tuple(get_close_matches(name, known)))
    return found


def tasks() -> list[TaskInfo]:
    """All tasks, by name."""
    return [info for _, info in sorted(_all().items()) if not info.is_internal]


def declared_tasks() -> list[TaskInfo]:
    """The project's own tasks whose modules have been imported so far; nothing is imported for it."""
    return list(_registered.values())


def keeps_result(name: str) -> bool:
    """False for a fire-and-forget task. One that is not registered here counts as one that keeps its results."""
    try:
        return get_task(name).keep_result
    except UnknownTask:
        return True


def keeps_state(name: str) -> bool:
    """False for a task of whose successes nothing is kept where nobody needs them."""
    try:
        return get_task(name).keep_state
    except UnknownTask:
        return True


def current_message() -> Message | None:
    """The message that this thread, or this asyncio task, is executing; None outside of an execution.

    Its `id` is the same on every attempt: use it as an idempotency key towards other systems.
    """
    return _current.get()


def current_context() -> TaskContext | None:
    """The execution that this thread, or this asyncio task, is in the midst of; None outside of one.

    The same that a task gets as its first parameter, where that is annotated with `TaskContext`.
    """
    message = _current.get()
    return None if message is None else TaskContext(message)


def execute(message: Message) -> Any:
    """Run the message's task in this process and return what it returns. Raises `UnknownTask`, and what it raises."""
    info = _task_of(message)
    token = _current.set(message)
    try:
        return info.run(message)
    finally:
        _current.reset(token)


async def execute_async(message: Message) -> Any:
    """The same in the event loop that runs here, for a task whose `is_async` says so."""
    info = get_task(message.task)
    assert info.run_async is not None, "the pool asked whether it is"
    token = _current.set(message)
    try:
        return await info.run_async(message)
    finally:
        _current.reset(token)


def _task_of(message: Message) -> TaskInfo:
    """Raises: UnknownTask; GiveUp, where Celery has sent it and was told that nobody knows its task."""
    try:
        return get_task(message.task)
    except UnknownTask:
        if "celery" in message.headers:
            _run_unknown(message)
        raise


def summary(function: Callable[..., Any]) -> str:
    """The first paragraph of a docstring, on one line; empty without one."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def _info(name: str, function: Callable[..., Any], options: TaskOptions) -> TaskInfo:
    fields = declared(name, options)
    call = Call(name, function, fields["validate"])
    hold = declared_hold(name, options)
    return TaskInfo(
        name=name,
        signature=str(call.signature),
        doc=summary(function),
        source="downbeat",
        run=call.run,
        run_async=call.run_async if call.is_async else None,
        checks=call.checks,
        unique=None if hold is None else unique_of(name, call.signature, options["unique"], hold),
        **fields,
    )


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
    return _django_tasks() | _celery | _registered


def _discover() -> None:
    global _discovered  # once per process: the modules stay imported
    from pg_queue.tasks.django.resolution import import_modules

    with _discovery:
        if not _discovered:
            autodiscover_modules("tasks")
            import_modules()
            _discovered = True


def _run_unknown(message: Message) -> None:
    try:
        from pg_queue.celery.execution import run_unknown
    except ModuleNotFoundError:
        return
    run_unknown(message)


def _celery_tasks() -> dict[str, TaskInfo]:
    try:
        from pg_queue.celery.registry import celery_tasks
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "celery":
            raise
        return {}
    return celery_tasks()


def _django_tasks() -> dict[str, TaskInfo]:
    from pg_queue.tasks.django.resolution import declared, known_info

    return {name: info for name in declared() if (info := known_info(name))}
