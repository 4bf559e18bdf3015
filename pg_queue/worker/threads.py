"""A worker whose tasks run in threads of this process: where one process does everything.

It differs from the worker with child processes in one thing: a thread cannot be killed. So

- a task with a time limit is refused before the start (`check_threads_will_do`);
- a task that goes on when the drain ends is left behind: its claim runs out, and another worker runs it again;
- a task that crashes the interpreter takes all of it along, and after the next start the leases run out.

Everything else is as `pg_queue.worker` says: claims are renewed, outcomes kept while the database is away and settled
when it is back, and a lost claim settles nothing.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

from django.db import connections

from pg_queue.domain import Claim
from pg_queue.errors import Configuration, StoreUnavailable
from pg_queue.health.readiness import Pulse
from pg_queue.process import StopRequest
from pg_queue.results.registry import result_store
from pg_queue.settings import QueueSettings, queue_settings
from pg_queue.tasks import TaskInfo, tasks
from pg_queue.worker.books import Books
from pg_queue.worker.execution import Outcome, outcome_of
from pg_queue.worker.hearing import listener
from pg_queue.worker.holdings import Holdings
from pg_queue.worker.keeper import Keeper
from pg_queue.worker.options import WorkerOptions, time_limit
from pg_queue.worker.polling import LEAST_SECONDS, Polling
from pg_queue.worker.registration import Registration

logger = logging.getLogger(__name__)

TURN_SECONDS = 1.0
"""Longest wait of one turn, so that the pulse shows life."""
LAST_WORDS_SECONDS = 3.0
"""How long after its drain a worker may still settle what waits for the store of results."""


def check_threads_will_do(conf: QueueSettings, known: Sequence[TaskInfo]) -> None:
    """Raises: Configuration where a time limit is to be enforced, which needs a process."""
    for info in known:
        if limit := time_limit(info.time_limit_seconds, conf):
            raise Configuration(
                f"task {info.name!r}: expected no time limit, which a worker of threads cannot enforce, "
                f"got: {limit:g} s; run it in a worker of processes"
            )


class ThreadWorker:
    """One worker, from `run` until it is told to stop (or, with `once`, until nothing is due)."""

    def __init__(self, options: WorkerOptions, stop: StopRequest) -> None:
        """Raises: Configuration, see `check_threads_will_do`."""
        self.options, self.pulse = options, Pulse(limit_seconds=60.0)
        self._stop, self._conf, self._store = stop, queue_settings(), options.find_store()
        check_threads_will_do(self._conf, tasks())
        self._holdings = Holdings()
        self._books = Books(self._store, options, self._conf, self._holdings, result_store())
        self._registration = Registration(self._store, options, self._books.figures, self._holdings)
        self._listener = listener(self._store, options.queues)
        self._hands = _Hands(options.concurrency)
        self._woken, self._waking = os.pipe()
        self._polling = Polling(self._conf.poll_seconds)
        self._claim_at = 0.0
        self._may_have_more = True
        self._is_empty = False
        self._drain_until: float | None = None

    def run(self) -> None:
        """Work. Raises: StoreUnavailable where outcomes could not be settled before the end."""
        with self._services():
            while not self._is_over():
                self._turn()
        if self._hands.busy:
            logger.warning("worker.left_behind running=%s; their leases run out", self._hands.busy)
        if not self._books.is_clear:
            raise StoreUnavailable(
                f"{self._books.pending} outcomes or claims could not be settled: their leases run out"
            )

    def details(self) -> dict[str, Any]:
        """What `/readyz` says of this worker."""
        figures = self._books.figures
        return {
            "worker": self.options.worker_id,
            "queues": list(self.options.queues),
            "threads": self.options.concurrency,
            "held": len(self._holdings),
            "finished": figures.finished,
            "failed": figures.failed,
            "draining": self._drain_until is not None,
        }

    def _turn(self) -> None:
        self.pulse.beat()
        if self._listener.connect():
            self._may_have_more = True  # what was sent before it listened is heard by nobody
        self._wait()
        for claim, outcome in self._hands.finished():
            self._books.report(claim, outcome)
        self._books.flush()
        self._drain_when_told()
        self._may_have_more |= self._polling.is_freed(self._books.figures.ended)
        if self._drain_until is None:
            self._claim()

    def _wait(self) -> None:
        heard = self._listener.fileno()
        sources: list[Any] = [self._hands, self._stop, self._woken, *([] if heard is None else [heard])]
        readable, _, _ = select.select(sources, [], [], self._patience())
        if heard in readable and self._listener.hear():
            self._may_have_more = True
            self._polling.hear()
        if self._stop in readable:
            self._stop.drain()
        if self._woken in readable:
            os.read(self._woken, 64)

    def _patience(self) -> float:
        now = time.monotonic()
        waits = [TURN_SECONDS]
        if not self._books.is_clear:
            waits.append(self._books.seconds_until_due())
        if self._drain_until is not None:
            waits.append(self._drain_until - now if self._drain_until > now else LEAST_SECONDS)
        elif self._hands.free:
            due = 0.0 if self._may_have_more else self._claim_at - now
            waits.append(max(due, self._books.seconds_until_claim()))
        return max(0.0, min(waits))

    def _claim(self) -> None:
        limit = self._hands.free
        if not limit or not (self._may_have_more or self._claim_at <= time.monotonic()):
            return
        claims = self._books.claim(limit)
        if claims is None:
            return
        self._hands.take(claims)
        self._may_have_more, self._is_empty = len(claims) == limit, not claims
        if not self._may_have_more:
            wait = self._polling.seconds(len(claims), self._books.seconds_until_message())
            self._claim_at = time.monotonic() + wait

    @contextmanager
    def _services(self) -> Iterator[None]:
        keeper = Keeper(self._store, self._holdings, self._conf, beat=self._registration.beat, on_lost=_note_lost)
        self._registration.announce()
        self._hands.start()
        keeper.start()
        self._books.deposits.start(lambda: os.write(self._waking, b"!"))
        try:
            yield
        finally:
            keeper.stop()
            self._books.deposits.stop()
            self._hands.stop()
            self._listener.close()
            self._registration.sign_off()
            os.close(self._woken)
            os.close(self._waking)
            connections.close_all()

    def _drain_when_told(self) -> None:
        if not self._stop.count:
            return
        if self._drain_until is None:
            self._drain_until = time.monotonic() + self.options.drain_seconds
            logger.info("worker.draining held=%s seconds=%g", len(self._holdings), self.options.drain_seconds)
        if self._stop.count > 1:
            self._drain_until = min(self._drain_until, time.monotonic())
        if time.monotonic() >= self._drain_until:
            self._books.deposits.close()

    def _is_over(self) -> bool:
        is_idle = not self._hands.busy and self._books.is_clear
        if self._drain_until is not None:
            last_words = LAST_WORDS_SECONDS if self._books.deposits.pending else 0.0
            return is_idle or time.monotonic() >= self._drain_until + last_words
        return self.options.once and self._is_empty and is_idle


class _Hands:
    """The threads that run tasks, one message at a time each. `fileno` is readable when one of them has finished."""

    def __init__(self, count: int) -> None:
        self._count, self.busy = count, 0
        self._inbox: SimpleQueue[Claim | None] = SimpleQueue()
        self._outbox: SimpleQueue[tuple[Claim, Outcome]] = SimpleQueue()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # Daemons: the interpreter does not wait at its end for a task that outlived the drain.
        self._threads = [
            threading.Thread(target=self._run, name=f"task-{number}", daemon=True) for number in range(count)
        ]

    @property
    def free(self) -> int:
        """How many more messages may be taken."""
        return self._count - self.busy

    def fileno(self) -> int:
        """To wait on."""
        return self._read

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def take(self, claims: Sequence[Claim]) -> None:
        """Run these."""
        self.busy += len(claims)
        for claim in claims:
            self._inbox.put(claim)

    def finished(self) -> Iterator[tuple[Claim, Outcome]]:
        """What has come to an end since the last time."""
        while True:
            try:
                done = self._outbox.get_nowait()
            except Empty:
                return
            os.read(self._read, 1)
            self.busy -= 1
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

    def _run(self) -> None:
        while (claim := self._inbox.get()) is not None:
            self._outbox.put((claim, outcome_of(claim.message)))
            os.write(self._write, b"!")  # after the outcome: one byte for each
        connections.close_all()


def _note_lost(tokens: set[UUID]) -> None:
    logger.warning("worker.claims_lost count=%s; they go on, and settle nothing", len(tokens))
