"""The decorator that makes a function a task, and what it makes of it: the function still, which can be enqueued too.

Typed by the function's own parameters, so that a type checker sees a wrong argument where it is enqueued.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from asgiref.sync import markcoroutinefunction, sync_to_async

from pg_queue.domain import DEFAULT_PRIORITY, Json, NewMessage
from pg_queue.enqueueing import enqueue_many
from pg_queue.errors import InvalidMessage
from pg_queue.storage import store
from pg_queue.tasks import TaskContext, TaskInfo, TaskOptions, register
from pg_queue.tasks.expiry import span_of, with_expiry
from pg_queue.validation import check_queue, check_reason

Called = ParamSpec("Called")
"""What the function takes."""
Sent = ParamSpec("Sent")
"""What its messages carry: the same without the context."""
Returned = TypeVar("Returned")
Returned_co = TypeVar("Returned_co", covariant=True)


class SendOptions(TypedDict, total=False):
    """What may be said of a message besides its arguments; see `NewMessage`."""

    queue: str
    priority: int
    run_after: datetime | None
    delay: timedelta | float | None
    """Not before so long (seconds) from now, by this process's clock; not together with `run_after`."""
    expires: timedelta | float | datetime | None
    """Not begun later than this instant, or than so long (seconds) after it is due; None: the task's own."""
    max_attempts: int | None
    headers: Mapping[str, Json]
    organization_id: str
    report_to: str | None
    id: uuid.UUID | None
    key: str | None
    key_ttl: timedelta | None
    on_success: Sequence[NewMessage]
    on_failure: Sequence[NewMessage]
    using: str
    """Alias of a store."""


Bulk = tuple[Any, ...] | Mapping[str, Any] | NewMessage
"""One of many: its positional arguments, its named ones, or what `message` made of both."""


class Sending(Generic[Sent]):
    """A task with what is to be said of its messages."""

    def __init__(self, info: TaskInfo, given: SendOptions) -> None:
        self.info, self.given = info, given

    def options(self, **given: Unpack[SendOptions]) -> Sending[Sent]:
        """The same with these options besides: `t.options(queue="mail", delay=60).enqueue(1)`.

        What was given before stands where it is not given again. Raises: InvalidMessage naming the option.
        """
        return Sending(self.info, {**self.given, **_checked(given)})

    def message(self, *args: Sent.args, **kwargs: Sent.kwargs) -> NewMessage:
        """What `enqueue` would store: for a group, a continuation or `pg_queue.api.enqueue_many`."""
        return self._message(args, kwargs)

    def enqueue(self, *args: Sent.args, **kwargs: Sent.kwargs) -> uuid.UUID:
        """Store a message that calls the task with these arguments, and return its id. Joins the caller's transaction.

        Raises: as `pg_queue.api.enqueue`.
        """
        return enqueue_many([self._message(args, kwargs)], using=self._using)[0]

    async def aenqueue(self, *args: Sent.args, **kwargs: Sent.kwargs) -> uuid.UUID:
        """The same from `async def`."""
        return await sync_to_async(self.enqueue)(*args, **kwargs)

    def enqueue_many(self, calls: Iterable[Bulk]) -> list[uuid.UUID]:
        """Store a message for each of these, all or none; their ids in the same order. Joins the caller's transaction.

        Each is a tuple of positional arguments, a mapping of named ones, or what `message` returns. Raises: as
        `pg_queue.api.enqueue_many`; InvalidMessage (field `calls`) for anything else.
        """
        return enqueue_many([self._one_of_many(call) for call in calls], using=self._using)

    def cancel(self, *ids: uuid.UUID, reason: str = "") -> set[uuid.UUID]:
        """End messages that wait or run as cancelled; returns those that did. See `pg_queue.api.cancel`."""
        check_reason(reason)
        return store(self._using).cancel(ids, reason=reason)

    @property
    def _using(self) -> str:
        return self.given.get("using", "default")

    def _one_of_many(self, call: object) -> NewMessage:
        if isinstance(call, NewMessage):
            return call
        if isinstance(call, tuple):
            return self._message(call, {})
        if isinstance(call, Mapping):
            return self._message((), call)
        raise InvalidMessage(field="calls", expected="tuples, mappings or messages of `message`", got=call)

    def _message(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> NewMessage:
        given: dict[str, Any] = {"queue": self.info.queue, "priority": self.info.priority, **self.given}
        given.pop("using", None)
        delay = given.pop("delay", None)
        if delay is not None:
            given["run_after"] = datetime.now(UTC) + delay
        expires = given.pop("expires", None)
        if expires is not None:
            given["headers"] = with_expiry(given.get("headers", {}), expires, given.get("run_after"))
        return NewMessage(task=self.info.name, args=args, kwargs=kwargs, **given)


class Task(Sending[Sent], Generic[Called, Sent, Returned_co]):
    """A function that is a task. Calling it calls the function, here and now."""

    def __init__(self, function: Callable[..., Any], info: TaskInfo) -> None:
        super().__init__(info, {})
        self.function = function
        update_wrapper(self, function)
        if info.is_async:
            markcoroutinefunction(self)

    def __call__(self, *args: Called.args, **kwargs: Called.kwargs) -> Returned_co:
        """What the function returns; for an `async def` its coroutine."""
        returned: Returned_co = self.function(*args, **kwargs)
        return returned

    @property
    def task_name(self) -> str:
        """The name that messages say."""
        return self.info.name

    def __repr__(self) -> str:
        return f"<task {self.info.name}>"

    def __reduce__(self) -> str:
        """Pickled as a function is: by where it is found."""
        return str(self.function.__qualname__)


class Declaring(Protocol):
    """What `task` with options returns, to be called with the function."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, Sent], Returned], /
    ) -> Task[Concatenate[TaskContext, Sent], Sent, Returned]: ...
    @overload
    def __call__(self, function: Callable[Sent, Returned], /) -> Task[Sent, Sent, Returned]: ...


@overload
def task(
    name: Callable[Concatenate[TaskContext, Sent], Returned],
) -> Task[Concatenate[TaskContext, Sent], Sent, Returned]: ...
@overload
def task(name: Callable[Sent, Returned]) -> Task[Sent, Sent, Returned]: ...
@overload
def task(name: str | None = None, **options: Unpack[TaskOptions]) -> Declaring: ...
def task(name: str | Callable[..., Any] | None = None, **options: Unpack[TaskOptions]) -> Any:
    """Register a function, `async def` or not, as a task. It can be called as before, and enqueued: see `Task`.

    `name` None: the module's name, a dot, the function's. `@task` without parentheses works too. See `TaskInfo` and
    `RetryPolicy` for the options. A second function of the same name and another origin is refused. One whose first
    parameter is annotated with `TaskContext` gets that of each execution, and is enqueued without it.

    Raises: ValueError for a name that is taken, and for options that make no sense; TypeError for unknown ones.
    """

    def declare(function: Callable[..., Any], given: str | None = None) -> Task[Any, Any, Any]:
        plain = function.function if isinstance(function, Task) else function
        return Task(plain, register(plain, given, options))

    if callable(name):
        return declare(name)
    check_queue(options.get("queue", "default"), options.get("priority", DEFAULT_PRIORITY))
    return lambda function: declare(function, name)


def _checked(given: SendOptions) -> SendOptions:
    if unknown := sorted(given.keys() - SendOptions.__annotations__.keys()):
        known = ", ".join(sorted(SendOptions.__annotations__))
        raise InvalidMessage(field="options", expected=f"some of {known}", got=unknown[0])
    delay = given.get("delay")
    if delay is None:
        return given
    if given.get("run_after") is not None:
        raise InvalidMessage(field="delay", expected="None together with run_after", got=delay)
    span = span_of(delay)
    if span is None:
        raise InvalidMessage(field="delay", expected="a timedelta or a number of seconds, 0 or more", got=delay)
    return {**given, "delay": span}
