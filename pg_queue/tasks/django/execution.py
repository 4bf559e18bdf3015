"""One execution of a task of the API: its context, its signals, and what it returns."""

from __future__ import annotations

import asyncio
import contextvars
from traceback import format_exception
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.utils import timezone

from pg_queue.domain import Json, Message
from pg_queue.errors import GiveUp, RetryLater
from pg_queue.payload import plain_result
from pg_queue.settings import queue_settings
from pg_queue.tasks.calls import alone
from pg_queue.tasks.django.flavour import Flavour
from pg_queue.tasks.django.results import result_of
from pg_queue.tasks.policy import RetryPolicy


class Execution:
    """Runs one task with the arguments of messages. What one sets in its context (`contextvars`) no other finds.

    `task_started` is sent before, and `task_finished` after the execution that ends the message: not where it is to be
    tried again, nor where the process is killed. A receiver that raises is logged by Django, and changes nothing.
    """

    def __init__(self, flavour: Flavour, task: Any, retry: RetryPolicy) -> None:
        self._flavour, self._task, self._retry = flavour, task, retry
        self.is_async = iscoroutinefunction(task.func)

    def run(self, message: Message) -> Json:
        """Call the function in this thread, a coroutine function in a loop of its own; what it returned, as JSON.

        Raises: what the function raises; GiveUp, caused by what is wrong with it, for a value that cannot be kept.
        """
        if self.is_async:
            return asyncio.run(alone(self.run_async(message)))
        result = result_of(self._flavour, self._task, message)
        sender, signals = type(result.task.get_backend()), self._flavour.signals
        signals.task_started.send_robust(sender, task_result=result)
        try:
            value = self._kept(contextvars.copy_context().run(self._task.func, *self._args(result), **result.kwargs))
        except BaseException as error:
            if self._is_end(error, message):
                self._fail(result, error)
                signals.task_finished.send_robust(sender, task_result=result)
            raise
        self._succeed(result, value)
        signals.task_finished.send_robust(sender, task_result=result)
        return value

    async def run_async(self, message: Message) -> Json:
        """The same in the loop that runs here. For a coroutine function only."""
        result = result_of(self._flavour, self._task, message)
        sender, signals = type(result.task.get_backend()), self._flavour.signals
        await signals.task_started.asend_robust(sender, task_result=result)
        try:
            value = self._kept(await self._task.func(*self._args(result), **result.kwargs))
        except BaseException as error:
            if self._is_end(error, message):
                self._fail(result, error)
                await signals.task_finished.asend_robust(sender, task_result=result)
            raise
        self._succeed(result, value)
        await signals.task_finished.asend_robust(sender, task_result=result)
        return value

    def _args(self, result: Any) -> list[Any]:
        return [self._flavour.context(task_result=result), *result.args] if self._task.takes_context else result.args

    def _kept(self, value: Any) -> Json:
        try:
            return plain_result(self._flavour.normalize(value), max_bytes=queue_settings().max_result_bytes)
        except Exception as error:
            raise GiveUp(str(error)) from error  # it would return the same again

    def _is_end(self, error: BaseException, message: Message) -> bool:
        """Whether this error ends the message, as the worker will find when it gets it."""
        if isinstance(error, GiveUp) or message.attempts >= message.max_attempts:
            return True
        return not isinstance(error, RetryLater) and not self._retry.permits(error)

    def _fail(self, result: Any, error: BaseException) -> None:
        told = error.__cause__ if isinstance(error, (GiveUp, RetryLater)) and error.__cause__ else error
        path = f"{type(told).__module__}.{type(told).__qualname__}"
        trace = "".join(format_exception(told))
        result.errors.append(self._flavour.error(exception_class_path=path, traceback=trace))
        self._end(result, "FAILED")

    def _succeed(self, result: Any, value: Json) -> None:
        object.__setattr__(result, "_return_value", value)
        self._end(result, "SUCCESSFUL")

    def _end(self, result: Any, status: str) -> None:
        object.__setattr__(result, "finished_at", timezone.now())
        object.__setattr__(result, "status", self._flavour.status[status])
