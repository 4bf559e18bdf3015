"""Waiting for results: between Celery's promises and the ear.

What waits (`AsyncResult.get`, `GroupResult.join`) drains: it takes what the ear has found and fulfils promises with it,
its own or another waiter's. So callbacks (`then`) run in a thread that waits, as with every backend of Celery's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends.asynchronous import BaseResultConsumer

from pg_queue.celery.backend.ear import Ear

if TYPE_CHECKING:
    from pg_queue.celery.backend.backend import DownbeatBackend

LONGEST_DRAIN_SECONDS = 1.0


class ResultConsumer(BaseResultConsumer):
    """One for each backend, used by any number of threads or greenlets at a time."""

    # What Celery's base sets, and its published types leave out.
    backend: DownbeatBackend
    drainer: Any
    on_message: Any

    def __init__(self, backend: DownbeatBackend, *args: Any, **kwargs: Any) -> None:
        super().__init__(backend, *args, **kwargs)
        # Changed one item at a time, also by the garbage collector (`AsyncResult.__del__`): so without a lock.
        self._awaited: dict[str, None] = {}
        self._ear = Ear(
            backend.address.connect_directly, backend.address.namespace, lambda: set(self._awaited), self._look_up
        )
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._inbox: list[dict[str, Any]] = []
        self._changes = 0
        self._seen = threading.local()

    def start(self, initial_task_id: str, **kwargs: Any) -> None:
        """Await one task's result."""
        self.consume_from(initial_task_id)

    def stop(self) -> None:
        """Listen no more."""
        self._ear.stop()

    def on_after_fork(self) -> None:
        """The parent's waiting threads are not here."""
        self._awaited.clear()
        self._begin()

    def consume_from(self, task_id: str) -> None:
        """Await a task's result. The ear looks for it when somebody drains: a group awaits all that it sends."""
        self._awaited[task_id] = None

    def cancel_for(self, task_id: str) -> None:
        """Await it no more."""
        self._awaited.pop(task_id, None)

    def on_wait_for_pending(self, result: Any, timeout: float | None = None, **kwargs: Any) -> None:
        """What has ended already is told at once, by a statement of the waiter's own."""
        for meta in result._iter_meta(**kwargs):
            if meta is not None:
                self.on_state_change(meta, None)

    def drain_events(self, timeout: float | None = None) -> None:
        """Tell what was found, or wait at most so long until something was told or is to be told."""
        with self._changed:
            if self._is_up_to_date():
                self._ear.attend()
                self._changed.wait(LONGEST_DRAIN_SECONDS if timeout is None else timeout)
            self._seen.changes = self._changes
            found, self._inbox = self._inbox, []
        if not found:
            return
        try:
            for meta in found:
                self.on_state_change(meta, None)
        finally:
            self._note_change([])

    def drain_events_until(self, p: Any, timeout: float | None = None, on_interval: Any = None) -> Any:
        """Drain until the promise `p` is fulfilled. Raises: socket.timeout, when `timeout` is over and not later."""
        ends_at = None if timeout is None else time.monotonic() + timeout

        def drain(timeout: float) -> None:
            left = timeout if ends_at is None else min(timeout, ends_at - time.monotonic())
            self.drain_events(max(0.0, left))

        return self.drainer.drain_events_until(p, timeout=timeout, on_interval=on_interval, wait=drain)

    def on_state_change(self, meta: dict[str, Any], message: Any) -> None:
        """Fulfil the promises of those who wait for this task; nothing is kept for who comes later: the row is."""
        task_id = meta.get("task_id")
        if meta["status"] in states.READY_STATES and task_id not in self._awaited:
            if self.on_message:
                self.on_message(meta)
            return
        super().on_state_change(meta, message)
        if task_id is not None and meta["status"] in states.READY_STATES:
            self.cancel_for(task_id)

    def _is_up_to_date(self) -> bool:
        """False where there is something to tell, or was told since this thread looked: perhaps what it waits for."""
        return not self._inbox and getattr(self._seen, "changes", None) == self._changes

    def _look_up(self, task_ids: Collection[str], also_unended: bool) -> None:
        """Called by the ear."""
        found = self.backend.metas(task_ids)
        if found := [meta for meta in found if also_unended or meta["status"] in states.READY_STATES]:
            self._note_change(found)

    def _note_change(self, found: list[dict[str, Any]]) -> None:
        with self._changed:
            self._inbox += found
            self._changes += 1
            self._changed.notify_all()
