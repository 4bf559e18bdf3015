"""How a task's function is called with a message, in whatever pool."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, iscoroutinefunction, sync_to_async
from django.db import connections

from pg_queue.domain import Message
from pg_queue.errors import InvalidArguments, InvalidMessage
from pg_queue.tasks.context import TaskContext
from pg_queue.tasks.validation import Checks, Refused, Validation

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Call:
    """One function as a task."""

    def __init__(self, task: str, function: Callable[..., Any], validation: Validation) -> None:
        """Raises: ValueError for a parameter of the type `TaskContext` that is not the first one; see also `Checks`."""
        self._function = function
        self.is_async = iscoroutinefunction(function)
        self.takes_context, self.signature = _without_context(function)
        self.checks = None
        if validation is not Validation.NONE:
            self.checks = Checks(task, function, self.signature, validation)

    def run(self, message: Message) -> Any:
        """Call it with the message's arguments, in this thread; one that is `async def` in an event loop of its own.

        Raises: Refused, where an argument or the result is not what its type hint says; what the function raises.
        """
        if self.is_async:
            return asyncio.run(alone(self.run_async(message)))
        args, kwargs = self._arguments(message)
        return self._checked(self._function(*args, **kwargs))

    async def run_async(self, message: Message) -> Any:
        """The same in the loop that runs here. For an `async def` only."""
        args, kwargs = self._arguments(message)
        return self._checked(await self._function(*args, **kwargs))

    def _arguments(self, message: Message) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = message.args, message.kwargs
        if self.checks is not None and self.checks.of_inputs:
            try:
                args, kwargs = self.checks.as_values(args, kwargs)
            except InvalidArguments as error:
                raise Refused("task.invalid_arguments") from error
        return ([TaskContext(message), *args] if self.takes_context else args), kwargs

    def _checked(self, returned: Any) -> Any:
        if self.checks is None or not self.checks.of_outputs:
            return returned
        try:
            return self.checks.result(returned)
        except InvalidMessage as error:
            raise Refused("task.invalid_result") from error


def _without_context(function: Callable[..., Any]) -> tuple[bool, inspect.Signature]:
    """Whether the function's first parameter is annotated as its context; and its signature without that one."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    annotations = _annotations(function, parameters)
    at = [place for place, one in enumerate(parameters) if annotations.get(one.name) is TaskContext]
    if not at:
        return False, signature
    if at != [0] or parameters[0].kind not in _POSITIONAL:
        expected = "TaskContext as the type of the first parameter alone"
        raise ValueError(f"{function.__qualname__}: expected {expected}, got: {parameters[at[-1]].name!r}")
    return True, signature.replace(parameters=parameters[1:])


def _annotations(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> dict[str, Any]:
    """The parameters' types. Where not all names are known at runtime, a text that ends in the class's name stands."""
    try:
        return get_type_hints(function)
    except Exception:  # noqa: BLE001 - an annotation may be any expression, and imports may be for type checkers only
        return {one.name: TaskContext if _names_context(one.annotation) else one.annotation for one in parameters}


def _names_context(annotation: object) -> bool:
    return isinstance(annotation, str) and annotation.split(".")[-1] == TaskContext.__name__


async def alone(execution: Coroutine[Any, Any, Any]) -> Any:
    """Django's asynchronous calls get a thread of this execution's own, whose connections end with it.

    Without one, all the loops of a process would share a single thread, and nobody would look after its connections.
    """
    async with ThreadSensitiveContext() as context:
        try:
            return await execution
        finally:
            if context in SyncToAsync.context_to_thread_executor:
                await sync_to_async(connections.close_all)()
