"""The threads that run tasks, one message at a time each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from uuid import UUID

from django.db import connections

from pg_queue.domain import Claim, Message
from pg_queue.tasks.context import cancellation, reporter
from pg_queue.worker.execution import Outcome, outcome_of
from pg_queue.worker.pools.pace import RECALL_SECONDS, Pace
from pg_queue.worker.progress import Board


class Hands:
    """Threads, and what waits for one of them. `fileno` is readable when one has finished.

    All is called in the loop's thread but for `_run`, which shares with it what is safe to share: two queues, a pipe,
    and `_begun`, of which each thread writes its own entry.
    """

    def __init__(self, most: int, board: Board) -> None:
        """At most so many; each is started when it is first needed. `board` is told what tasks say of themselves."""
        self.busy, self._board = 0, board
        self._most, self._pace = most, Pace()
        self._inbox: SimpleQueue[tuple[Claim, threading.Event] | None] = SimpleQueue()
        self._outbox: SimpleQueue[tuple[Claim, Outcome | None, float]] = SimpleQueue()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._threads: list[threading.Thread] = []
        self._lost: dict[UUID, threading.Event] = {}
        """By the token of each claim that was taken and has not ended: set when it is lost."""
        self._begun: dict[UUID, float] = {}
        """When each began that runs (`time.monotonic`)."""

    def fileno(self) -> int:
        """To wait on."""
        return self._read

    def room(self, most_ahead: int) -> int:
        """How many more claims they may be given; 0 too while it is not worth a statement yet."""
        ahead = 0 if self._are_slow() else min(most_ahead, self._pace.ahead(most_ahead) * self._most)
        room = self._most + ahead - self.busy
        is_idle = self.busy < self._most
        return room if is_idle or room * 2 >= self._most + ahead else 0

    def take(self, claims: Sequence[Claim]) -> None:
        """Run these, in this order as far as there is one."""
        self.busy += len(claims)
        while len(self._threads) < min(self.busy, self._most):
            self._start_one()
        for claim in claims:
            lost = self._lost[claim.token] = threading.Event()
            self._inbox.put((claim, lost))

    def lose(self, tokens: Collection[UUID]) -> None:
        """Begin none of these; let those that run know that they are for nothing (`TaskContext.is_cancelled`)."""
        for token in tokens:
            if (lost := self._lost.get(token)) is not None:
                lost.set()

    def finished(self) -> Iterator[tuple[Claim, Outcome | None]]:
        """What has come to an end since the last time; None: it was lost before it began."""
        while True:
            try:
                claim, outcome, seconds = self._outbox.get_nowait()
            except Empty:
                return
            os.read(self._read, 1)
            self._forget(claim)
            if outcome is not None:
                self._pace.note(seconds)
            yield claim, outcome

    def recall_at(self) -> float | None:
        """When what waits has waited long enough behind what runs; None: nothing waits."""
        if self.busy <= self._most or not (begun := list(self._begun.values())):
            return None
        return max(begun) + RECALL_SECONDS

    def give_back(self) -> list[Claim]:
        """What has not begun; it is not theirs any more."""
        back = list[Claim]()
        with suppress(Empty):
            while (taken := self._inbox.get_nowait()) is not None:
                back.append(taken[0])
                self._forget(taken[0])
        return back

    def stop(self) -> None:
        """Take nothing more. One that runs goes on, and finds nobody who listens."""
        for _ in self._threads:
            self._inbox.put(None)
        if not self.busy:
            for thread in self._threads:
                thread.join(5)
            os.close(self._read)
            os.close(self._write)

    def _are_slow(self) -> bool:
        """Whether all of them run what takes long."""
        begun = list(self._begun.values())
        return len(begun) >= self._most and max(begun) + RECALL_SECONDS <= time.monotonic()

    def _forget(self, claim: Claim) -> None:
        self.busy -= 1
        self._lost.pop(claim.token, None)

    def _start_one(self) -> None:
        # A daemon: the interpreter does not wait at its end for a task that outlived the drain.
        self._threads.append(threading.Thread(target=self._run, name=f"task-{len(self._threads)}", daemon=True))
        self._threads[-1].start()

    def _run(self) -> None:
        while (taken := self._inbox.get()) is not None:
            claim, lost = taken
            begun = self._begun[claim.token] = time.monotonic()
            outcome = None if lost.is_set() else self._outcome(claim, lost)
            del self._begun[claim.token]
            self._outbox.put((claim, outcome, time.monotonic() - begun))
            os.write(self._write, b"!")  # after the outcome: one byte for each
        connections.close_all()

    def _outcome(self, claim: Claim, lost: threading.Event) -> Outcome:
        cancellation.set(_asks(lost))
        reporter.set(self._board.reporter_for(claim))
        return outcome_of(claim.message)


def _asks(lost: threading.Event) -> Callable[[Message], bool]:
    return lambda _message: lost.is_set()
