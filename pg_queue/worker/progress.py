"""What executions say of themselves, on its way to the store: the latest word of each, now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from uuid import UUID

from pg_queue.domain import Claim, Message, Progress
from pg_queue.tasks.context import Reporter

PAUSE_SECONDS = 0.3
"""At least so long between two statements: a few times a second each message's latest word is passed on."""

Report = tuple[UUID, UUID, Progress]
"""A message's id, the token of its claim, and its progress."""


class Board:
    """The latest word of each execution. `note` and `reporter_for` in any thread, the rest in the loop's."""

    def __init__(self) -> None:
        self._latest: dict[UUID, Report] = {}
        self._lock = threading.Lock()
        self._next_at = 0.0

    def note(self, claim: Claim, progress: Progress) -> None:
        """The execution under this claim says so."""
        with self._lock:
            self._latest[claim.token] = claim.message.id, claim.token, progress

    def reporter_for(self, claim: Claim) -> Reporter:
        """For `pg_queue.tasks.context.reporter`, where the task runs in this process."""

        def report(message: Message, progress: Progress) -> None:
            self.note(claim, progress)

        return report

    def forget(self, token: UUID) -> None:
        """The execution has ended."""
        if self._latest:
            with self._lock:
                self._latest.pop(token, None)

    def due(self) -> list[Report]:
        """What is to be passed on now; nothing while the last time is not long enough ago."""
        if not self._latest or time.monotonic() < self._next_at:
            return []
        with self._lock:
            reports = list(self._latest.values())
            self._latest.clear()
        self._next_at = time.monotonic() + PAUSE_SECONDS
        return reports


class Teller:
    """A child's end: sends the latest word of the execution that runs, at most now and then, and the last one surely.

    A thread of its own sends, begun with the first word. So the task neither waits for the channel nor has to say its
    last word twice.
    """

    def __init__(self, send: Callable[[int, Progress], None]) -> None:
        """`send` takes the number of a token, and is called in the thread."""
        self._send = send
        self._number = 0
        self._latest: tuple[int, Progress] | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def begin(self, number: int) -> None:
        """The message of this number begins. What was said of another one is not sent any more."""
        self._number = number
        if self._latest is not None:
            with self._changed:
                self._latest = None

    def __call__(self, message: Message, progress: Progress) -> None:
        """A `pg_queue.tasks.context.Reporter`."""
        with self._changed:
            self._latest = self._number, progress
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._latest is None:
                    self._changed.wait()
                latest, self._latest = self._latest, None
            self._send(*latest)
            time.sleep(PAUSE_SECONDS)
