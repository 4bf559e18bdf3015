"""How a task's function is called with a message, in whatever pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, iscoroutinefunction, sync_to_async
from django.db import connections

from pg_queue.domain import Message


class Call:
    """One function as a task."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.is_async = iscoroutinefunction(function)

    def run(self, message: Message) -> Any:
        """Call it with the message's arguments, in this thread; one that is `async def` in an event loop of its own."""
        if self.is_async:
            return asyncio.run(_alone(self.run_async(message)))
        return self._function(*message.args, **message.kwargs)

    async def run_async(self, message: Message) -> Any:
        """The same in the loop that runs here. For an `async def` only."""
        return await self._function(*message.args, **message.kwargs)


async def _alone(execution: Coroutine[Any, Any, Any]) -> Any:
    """Django's asynchronous calls get a thread of this execution's own, whose connections end with it.

    Without one, all the loops of a process would share a single thread, and nobody would look after its connections.
    """
    async with ThreadSensitiveContext() as context:
        try:
            return await execution
        finally:
            if context in SyncToAsync.context_to_thread_executor:
                await sync_to_async(connections.close_all)()
