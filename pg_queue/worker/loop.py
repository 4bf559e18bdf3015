"""The worker's main loop: one thread that waits for its pool, for signals and for notifications, and acts on them."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

from django.db import connections

from pg_queue.errors import StoreUnavailable
from pg_queue.health.readiness import Pulse
from pg_queue.process import StopRequest
from pg_queue.results.registry import result_store
from pg_queue.settings import queue_settings
from pg_queue.worker.books import Books
from pg_queue.worker.hearing import listener
from pg_queue.worker.holdings import Holdings
from pg_queue.worker.keeper import Keeper
from pg_queue.worker.options import WorkerOptions
from pg_queue.worker.polling import Polling
from pg_queue.worker.pool import Desk
from pg_queue.worker.pools import POOLS
from pg_queue.worker.registration import Registration
from pg_queue.worker.statistics import Statistics

logger = logging.getLogger(__name__)

TURN_SECONDS = 1.0
"""Longest wait of one turn, so that the pulse shows life."""
LAST_WORDS_SECONDS = 4.0
"""How long a stopping worker tries to settle after its drain has ended."""
OVERDUE_SECONDS = 0.05
"""How often one whose drain has ended looks whether it is over."""


class Worker:
    """One worker, from `run` until it is told to stop (or, with `once`, until nothing is due)."""

    def __init__(self, options: WorkerOptions, stop: StopRequest, reload: StopRequest | None = None) -> None:
        """`reload`: asked for whenever the code is to be loaded anew.

        Raises: Configuration, where the pool cannot do what the settings or tasks ask for.
        """
        self.options, self.pulse = options, Pulse(limit_seconds=60.0)
        self._stop, self._conf, self._store = stop, queue_settings(), options.find_store()
        self._holdings = Holdings()
        self._books = Books(self._store, options, self._conf, self._holdings, result_store())
        self._selector = selectors.DefaultSelector()
        self._pool = POOLS[options.pool](
            Desk(options=options, conf=self._conf, books=self._books, selector=self._selector, wake=self._wake)
        )
        self._reload = reload
        statistics = Statistics(
            options,
            self._books.figures,
            busy=lambda: self._pool.busy,
            children=lambda: self._pool.process_ids,
            is_draining=lambda: self._drain_until is not None,
        )
        self._registration = Registration(self._store, options, self._books.figures, self._holdings, statistics)
        self._listener = listener(self._store, options.queues)
        self._heard: int | None = None
        """The listener's descriptor, as registered."""
        self._lost: SimpleQueue[set[UUID]] = SimpleQueue()
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
        if self._pool.busy:
            logger.warning("worker.left_behind running=%s; their leases run out", self._pool.busy)
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
            **self._pool.details(),
            "held": len(self._holdings),
            "finished": figures.finished,
            "failed": figures.failed,
            "draining": self._drain_until is not None,
        }

    def _turn(self) -> None:
        if self._pool.is_alive:
            self.pulse.beat()
        self._listen()
        for key, _ in self._selector.select(self._patience()):
            key.data()
        if lost := self._lost_claims():
            self._pool.lose(lost)
        self._pool.turn()
        self._drain_when_told()
        self._books.flush()
        self._may_have_more |= self._polling.is_freed(self._books.figures.ended)
        if self._drain_until is None:
            self._claim()

    # Waiting

    def _patience(self) -> float:
        now = time.monotonic()
        waits = [TURN_SECONDS, *(at - now for at in self._pool.deadlines(now))]
        if not self._books.is_clear:
            waits.append(self._books.seconds_until_due())
        if self._drain_until is not None:
            waits.append(self._drain_until - now if self._drain_until > now else OVERDUE_SECONDS)
        elif self._pool.room():
            due = 0.0 if self._may_have_more else self._claim_at - now
            waits.append(max(due, self._books.seconds_until_claim()))
        return max(0.0, min(waits))

    def _listen(self) -> None:
        if self._heard is not None and self._heard != self._listener.fileno():
            self._selector.unregister(self._heard)
            self._heard = None
        if self._listener.connect():
            self._heard = self._listener.fileno()
            assert self._heard is not None
            self._selector.register(self._heard, selectors.EVENT_READ, self._hear)
            self._may_have_more = True  # what was sent before it listened is heard by nobody

    def _hear(self) -> None:
        if self._listener.hear():
            self._may_have_more = True
            self._polling.hear()

    def _wake(self) -> None:
        os.write(self._waking, b"!")

    def _reload_code(self) -> None:
        assert self._reload is not None
        self._reload.drain()
        if self._drain_until is None:
            self._pool.reload()

    def _lost_claims(self) -> set[UUID]:
        lost: set[UUID] = set()
        with contextlib.suppress(Empty):
            while True:
                lost |= self._lost.get_nowait()
        return lost

    # Claiming

    def _claim(self) -> None:
        room = self._pool.room()
        if not room or not (self._may_have_more or self._claim_at <= time.monotonic()):
            return
        limit = min(room, self._conf.claim_batch)
        claims = self._books.claim(limit)
        if claims is None:
            return
        if claims:
            self._pool.take(claims)
        self._may_have_more, self._is_empty = len(claims) == limit, not claims
        if not self._may_have_more:
            wait = self._polling.seconds(len(claims), self._books.seconds_until_message())
            self._claim_at = time.monotonic() + wait

    # Beginning and end

    @contextmanager
    def _services(self) -> Iterator[None]:
        read, self._waking = os.pipe()
        self._selector.register(read, selectors.EVENT_READ, lambda: os.read(read, 64))
        self._selector.register(self._stop.fileno(), selectors.EVENT_READ, self._stop.drain)
        if self._reload is not None:
            self._selector.register(self._reload.fileno(), selectors.EVENT_READ, self._reload_code)

        def on_lost(tokens: set[UUID]) -> None:
            self._lost.put(tokens)
            self._wake()

        keeper = Keeper(self._store, self._holdings, self._conf, beat=self._registration.beat, on_lost=on_lost)
        self._registration.announce()
        self._pool.start()
        keeper.start()
        self._books.deposits.start(self._wake)
        try:
            yield
        finally:
            keeper.stop()
            self._books.deposits.stop()
            self._pool.close()
            self._listener.close()
            self._selector.close()
            self._registration.sign_off()
            os.close(read)
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
        is_over = time.monotonic() >= self._drain_until
        if is_over:
            self._books.deposits.close()
        self._pool.drain(is_over=is_over)

    def _is_over(self) -> bool:
        if self._drain_until is None:
            return self.options.once and self._is_empty and not self._pool.busy and self._books.is_clear
        now = time.monotonic()
        if self._pool.busy and now < self._drain_until + self._pool.stop_seconds:
            return False
        return self._books.is_clear or now >= self._drain_until + LAST_WORDS_SECONDS
