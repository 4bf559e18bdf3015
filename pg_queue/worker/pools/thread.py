"""Tasks in threads of the worker's own process: where one process does everything.

It differs from the pool of processes in one thing: a thread cannot be killed. So

- a task with a time limit is refused before the start (`check_threads_will_do`);
- a task that goes on when the drain ends is left behind: its claim runs out, and another worker runs it again;
- a task that crashes the interpreter takes all of it along, and after the next start the leases run out.

Everything else is as `pg_queue.worker` says: claims are renewed, outcomes kept while the database is away and settled
when it is back, and a lost claim settles nothing.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, ClassVar
from uuid import UUID

from django.db import connections

from pg_queue.domain import Claim, Message
from pg_queue.errors import Configuration
from pg_queue.settings import QueueSettings
from pg_queue.tasks import TaskInfo, tasks
from pg_queue.tasks.context import cancellation, reporter
from pg_queue.worker.execution import Outcome, outcome_of
from pg_queue.worker.limits import limits_of
from pg_queue.worker.pool import Desk
from pg_queue.worker.progress import Board

logger = logging.getLogger(__name__)


def check_threads_will_do(conf: QueueSettings, known: Sequence[TaskInfo]) -> None:
    """Raises: Configuration where a time limit is to be enforced, which needs a process."""
    for info in known:
        if limit := limits_of(info, conf).any:
            raise Configuration(
                f"task {info.name!r}: expected no time limit, which a worker of threads cannot enforce, "
                f"got: {limit:g} s; run it in a worker of processes"
            )


class ThreadPool:
    """Implements `pg_queue.worker.pool.Pool`."""

    stop_seconds: ClassVar[float] = 0.0
    is_alive: ClassVar[bool] = True

    def __init__(self, desk: Desk) -> None:
        """Raises: Configuration, see `check_threads_will_do`."""
        check_threads_will_do(desk.conf, tasks())
        self._count, self._books = desk.options.concurrency, desk.books
        self._selector = desk.selector
        self._hands = Hands(self._count, desk.books.board)

    @property
    def busy(self) -> int:
        """See the port."""
        return self._hands.busy

    @property
    def process_ids(self) -> Sequence[int]:
        """See the port: there are none."""
        return ()

    def room(self) -> int:
        """See the port."""
        return self._count - self._hands.busy

    def start(self) -> None:
        """See the port."""
        self._selector.register(self._hands, selectors.EVENT_READ, lambda: None)  # `turn` reads it

    def take(self, claims: Sequence[Claim]) -> None:
        """See the port."""
        self._hands.take(claims)

    def turn(self) -> None:
        """See the port."""
        for claim, outcome in self._hands.finished():
            self._books.report(claim, outcome)

    def deadlines(self, now: float) -> Iterator[float]:
        """See the port: there are none."""
        return iter(())

    def lose(self, tokens: Collection[UUID]) -> None:
        """See the port: what cannot be stopped goes on, unless it asks, and its outcome answers `LOST`."""
        self._hands.lose(tokens)
        logger.warning("worker.claims_lost count=%s; they go on, and settle nothing", len(tokens))

    def drain(self, *, is_over: bool) -> None:
        """See the port: everything has begun, and nothing can be stopped."""

    def reload(self) -> None:
        """See the port: code that runs in this process cannot be loaded anew."""
        logger.warning("worker.reload_refused pool=thread; restart it for new code")

    def close(self) -> None:
        """See the port."""
        self._hands.stop()

    def details(self) -> dict[str, Any]:
        """See the port."""
        return {"threads": self._count}


class Hands:
    """The threads that run tasks, one message at a time each. `fileno` is readable when one of them has finished."""

    def __init__(self, most: int, board: Board) -> None:
        """At most so many; each is started when it is first needed. `board` is told what tasks say of themselves."""
        self.busy, self._board = 0, board
        self._most = most
        self._inbox: SimpleQueue[tuple[Claim, threading.Event] | None] = SimpleQueue()
        self._outbox: SimpleQueue[tuple[Claim, Outcome]] = SimpleQueue()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._threads: list[threading.Thread] = []
        self._lost: dict[UUID, threading.Event] = {}
        """By the token of each claim that runs: set when it is lost."""

    def fileno(self) -> int:
        """To wait on."""
        return self._read

    def take(self, claims: Sequence[Claim]) -> None:
        """Run these, at most as many as there may be threads without work."""
        self.busy += len(claims)
        while len(self._threads) < min(self.busy, self._most):
            self._start_one()
        for claim in claims:
            lost = self._lost[claim.token] = threading.Event()
            self._inbox.put((claim, lost))

    def lose(self, tokens: Collection[UUID]) -> None:
        """Let those of these that run know that they are for nothing, where they ask (`TaskContext.is_cancelled`)."""
        for token in tokens:
            if (lost := self._lost.get(token)) is not None:
                lost.set()

    def finished(self) -> Iterator[tuple[Claim, Outcome]]:
        """What has come to an end since the last time."""
        while True:
            try:
                done = self._outbox.get_nowait()
            except Empty:
                return
            os.read(self._read, 1)
            self.busy -= 1
            self._lost.pop(done[0].token, None)
            yield done

    def stop(self) -> None:
        """Take nothing more. One that runs goes on, and finds nobody who listens."""
        for _ in self._threads:
            self._inbox.put(None)
        if not self.busy:
            for thread in self._threads:
                thread.join(5)
            os.close(self._read)
            os.close(self._write)

    def _start_one(self) -> None:
        # A daemon: the interpreter does not wait at its end for a task that outlived the drain.
        self._threads.append(threading.Thread(target=self._run, name=f"task-{len(self._threads)}", daemon=True))
        self._threads[-1].start()

    def _run(self) -> None:
        while (taken := self._inbox.get()) is not None:
            claim, lost = taken
            cancellation.set(_asks(lost))
            reporter.set(self._board.reporter_for(claim))
            self._outbox.put((claim, outcome_of(claim.message)))
            os.write(self._write, b"!")  # after the outcome: one byte for each
        connections.close_all()


def _asks(lost: threading.Event) -> Callable[[Message], bool]:
    return lambda _message: lost.is_set()
