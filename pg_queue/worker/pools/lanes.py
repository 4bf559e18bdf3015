"""Threads that the asynchronous calls of Django's ORM go through, for tasks that share one event loop.

Django runs them in one thread for all that has no thread of its own: hundreds of tasks would wait for each other's
queries. A thread and a connection for each task would be more sessions than a database has. So there are a few lanes,
each a thread with connections of its own, and a task keeps to one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import close_old_connections, connections

from pg_queue.tasks.transactions import discard, in_transaction, left_open

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

MOST = 8


class Lane(Executor):
    """One thread, begun when it is first needed. A daemon: the interpreter's end does not wait for what hangs in it."""

    def __init__(self, number: int) -> None:
        self.tasks = 0
        """How many executions keep to it now."""
        self.context = ThreadSensitiveContext()
        SyncToAsync.context_to_thread_executor[self.context] = self
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"lane-{number}", daemon=True)

    @property
    def is_used(self) -> bool:
        """Whether anything was ever called in it."""
        return self._thread.ident is not None

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `concurrent.futures.Executor`. One call after the other. Called in the loop's thread."""
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is for the caller
                future.set_exception(error)

        if not self.is_used:
            self._thread.start()
        self._calls.put(call)
        return future

    def end(self) -> None:
        """Close the connections and end, after what was called before; waits for nothing."""
        if self.is_used:
            self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # else it would live, and its arguments, until the next one
        connections.close_all()


class Lanes:
    """The lanes of one event loop. Its thread's own."""

    def __init__(self, concurrency: int) -> None:
        self._lanes = [Lane(number) for number in range(min(concurrency, MOST))]

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """Keep the execution that runs in this context to the lane with the fewest.

        Connections are looked after before and after it, behind what other executions have called there.
        """
        chosen = min(self._lanes, key=lambda lane: lane.tasks)
        chosen.tasks += 1
        token = SyncToAsync.thread_sensitive_context.set(chosen.context)
        if chosen.tasks == 1:
            self._look_after(chosen, is_alone=True)
        try:
            yield chosen
        finally:
            SyncToAsync.thread_sensitive_context.reset(token)
            chosen.tasks -= 1
            self._look_after(chosen, is_alone=chosen.tasks == 0)

    def close(self) -> None:
        """End them."""
        for lane in self._lanes:
            lane.end()

    def _look_after(self, lane: Lane, *, is_alone: bool) -> None:
        if lane.is_used:
            lane.submit(_look_after_connections, is_alone=is_alone)


def _look_after_connections(*, is_alone: bool) -> None:
    """Another execution may be half way through a cursor: only what is broken anyway is closed under it."""
    try:
        if open_still := in_transaction():
            discard(open_still)
            logger.warning("task.transaction_left_open; %s", left_open(open_still))
        if is_alone:
            close_old_connections()
            return
        for connection in connections.all(initialized_only=True):
            if connection.errors_occurred and not connection.is_usable():
                connection.close()
    except Exception:
        logger.warning("task.connection_not_closed", exc_info=True)
