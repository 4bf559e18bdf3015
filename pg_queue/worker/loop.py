"""The worker's main loop: one thread that waits for children, signals and notifications, and acts on them."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

from django.db import connections

from pg_queue.domain import Claim, Failure, Retry
from pg_queue.errors import StoreUnavailable, UnknownTask
from pg_queue.health.metrics import CHILD_EXITS
from pg_queue.health.readiness import Pulse
from pg_queue.process import StopSignals
from pg_queue.results.registry import result_store
from pg_queue.settings import queue_settings
from pg_queue.tasks import get_task
from pg_queue.worker import child as protocol
from pg_queue.worker.books import Books
from pg_queue.worker.execution import backoff
from pg_queue.worker.hearing import listener
from pg_queue.worker.holdings import Holdings
from pg_queue.worker.keeper import Keeper
from pg_queue.worker.options import WorkerOptions, time_limit
from pg_queue.worker.polling import Polling
from pg_queue.worker.pool import RECALL_SECONDS, Child, Pool, how_it_ended
from pg_queue.worker.registration import Registration
from pg_queue.worker.wire import unpacked_outcome

logger = logging.getLogger(__name__)

TURN_SECONDS = 1.0
"""Longest wait of one turn, so that the pulse shows life."""
LAST_WORDS_SECONDS = 5.0
"""How long a stopping worker tries to settle after its drain has ended."""


class Worker:
    """One worker, from `run` until it is told to stop (or, with `once`, until nothing is due)."""

    def __init__(self, options: WorkerOptions, stop: StopSignals) -> None:
        self.options, self.pulse = options, Pulse(limit_seconds=60.0)
        self._stop, self._conf, self._store = stop, queue_settings(), options.find_store()
        self._holdings = Holdings()
        self._books = Books(self._store, options, self._conf, self._holdings, result_store())
        self._registration = Registration(self._store, options, self._books.figures, self._holdings)
        self._selector = selectors.DefaultSelector()
        self._pool = Pool(options.concurrency, watch=self._watch)
        self._listener = listener(self._store, options.queues)
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
            "children": len(self._pool.children),
            "held": len(self._holdings),
            "finished": figures.finished,
            "failed": figures.failed,
            "draining": self._drain_until is not None,
        }

    def _turn(self) -> None:
        self.pulse.beat()
        self._pool.fill()
        self._listen()
        self._act(self._selector.select(self._patience()))
        self._stop_what_is_lost()
        self._enforce_limits()
        self._drain_when_told()
        self._books.flush()
        self._may_have_more |= self._polling.is_freed(self._books.figures.ended)
        if self._drain_until is None:
            self._claim()

    # Waiting

    def _patience(self) -> float:
        now = time.monotonic()
        waits = [TURN_SECONDS, *(at - now for at in self._deadlines(now))]
        if not self._books.is_clear:
            waits.append(self._books.seconds_until_due())
        if (fill := self._pool.seconds_until_fill()) is not None:
            waits.append(fill)
        return max(0.0, min(waits))

    def _deadlines(self, now: float) -> Iterator[float]:
        for one in self._pool.children:
            yield from filter(None, (self._limit_at(one), self._recall_at(one)))
        if self._drain_until is not None:
            yield self._drain_until if self._drain_until > now else now + 0.05
        elif self._room():
            at = now if self._may_have_more else self._claim_at
            yield max(at, now + self._books.seconds_until_claim())

    def _watch(self, started: Child) -> None:
        self._selector.register(started.channel, selectors.EVENT_READ, ("channel", started))
        self._selector.register(started.process.sentinel, selectors.EVENT_READ, ("end", started))

    def _act(self, events: Iterable[tuple[selectors.SelectorKey, int]]) -> None:
        ends = []
        for key, _ in events:
            what, subject = key.data
            if what == "channel":
                self._receive(subject)
            elif what == "end":
                ends.append(subject)
            elif what == "stop":
                self._stop.drain()
            elif what == "listen":
                self._hear()
            elif what == "wake":
                os.read(key.fd, 64)
        for one in ends:
            self._bury(one)
        self._arrange_writing()

    def _arrange_writing(self) -> None:
        for one in self._pool.children:
            one.flush()
            if one.is_cut:
                continue
            key = self._selector.get_key(one.channel)
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if one.outbox else 0)
            if key.events != wanted:
                self._selector.modify(one.channel, wanted, key.data)

    def _listen(self) -> None:
        for key in [key for key in self._selector.get_map().values() if key.data[0] == "listen"]:
            if key.fd != self._listener.fileno():
                self._selector.unregister(key.fileobj)
        if self._listener.connect():
            descriptor = self._listener.fileno()
            assert descriptor is not None
            self._selector.register(descriptor, selectors.EVENT_READ, ("listen", self._listener))
            self._may_have_more = True  # what was sent before LISTEN is heard by nobody

    def _hear(self) -> None:
        if self._listener.hear():
            self._may_have_more = True
            self._polling.hear()

    # Children

    def _receive(self, one: Child) -> None:
        try:
            for kind, *values in one.receive():
                self._note(one, kind, values)
        except Exception:  # one child's nonsense must not end the others' work
            logger.exception("worker.child_garbled pid=%s", one.process.pid)
            one.is_cut = True
            one.kill("garbled")
        if one.is_cut:
            self._selector.unregister(one.channel)
            one.end()

    def _note(self, one: Child, kind: str, values: list[Any]) -> None:
        if kind == protocol.READY:
            one.is_ready = True
        elif kind == protocol.DONE:
            number, outcome = values
            self._books.report(one.finished(number), unpacked_outcome(outcome))
        elif kind == protocol.RETURNED:
            self._books.give_back(one.returned(values[0]))

    def _bury(self, gone: Child) -> None:
        """A child has ended: the message that it ran is blamed, those behind it never began."""
        if not gone.is_cut:
            self._receive(gone)
        if not gone.is_cut:
            self._selector.unregister(gone.channel)
        self._selector.unregister(gone.process.sentinel)
        ended = how_it_ended(gone.process.exitcode)
        CHILD_EXITS.labels(gone.killed_for or "exited").inc()
        logger.warning("worker.child_ended pid=%s why=%s; it %s", gone.process.pid, gone.killed_for, ended)
        self._pool.remove(gone)
        if gone.assigned:
            running, *behind = gone.assigned
            if gone.killed_at not in (None, running.token):
                # The one that it was killed for was reported in the last moment: what came after is not to blame.
                self._conclude(running, None, f"{ended}, which was meant for the message before")
            else:
                self._conclude(running, gone.killed_for, ended)
            self._books.give_back(behind)

    def _conclude(self, claim: Claim, killed_for: str | None, ended: str) -> None:
        if killed_for == "lost":
            self._books.write_off(claim)
        elif killed_for == "stopped":
            text = f"the worker stopped and the task had not ended within {self.options.drain_seconds:g} s"
            self._books.report(claim, Retry(failure=_failure("worker.stopped", text), delay=timedelta()))
        elif killed_for == "time_limit":
            text = f"it ran longer than its time limit of {self._limit(claim):g} s and was killed"
            self._books.report(claim, Retry(failure=_failure("worker.time_limit", text), delay=backoff(claim.message)))
        else:
            text = f"the process that ran it {ended}"
            self._books.report(claim, Retry(failure=_failure("worker.exited", text), delay=backoff(claim.message)))

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        for one in self._pool.children:
            if (limit_at := self._limit_at(one)) is not None and limit_at <= now:
                one.kill("time_limit")
            elif (recall_at := self._recall_at(one)) is not None and recall_at <= now:
                one.recall()

    def _limit_at(self, one: Child) -> float | None:
        if not one.assigned or one.killed_for:
            return None
        limit = self._limit(one.assigned[0])
        return None if limit is None else one.busy_since + limit

    def _recall_at(self, one: Child) -> float | None:
        if len(one.assigned) < 2 or one.is_recalling or one.killed_for:
            return None
        return one.busy_since + RECALL_SECONDS

    def _limit(self, claim: Claim) -> float | None:
        try:
            own = get_task(claim.message.task).time_limit_seconds
        except UnknownTask:
            own = None
        return time_limit(own, self._conf)

    def _stop_what_is_lost(self) -> None:
        lost: set[UUID] = set()
        with contextlib.suppress(Empty):
            while True:
                lost |= self._lost.get_nowait()
        if not lost:
            return
        for one in self._pool.children:
            if one.assigned and one.assigned[0].token in lost:
                one.kill("lost")
            elif any(claim.token in lost for claim in one.assigned):
                one.recall()

    # Claiming

    def _room(self) -> int:
        return sum(max(0, one.room(self._conf.claim_batch)) for one in self._pool.children)

    def _claim(self) -> None:
        now, room = time.monotonic(), self._room()
        if not room or not (self._may_have_more or self._claim_at <= now) or not self._is_worth_it(room):
            return
        limit = min(room, self._conf.claim_batch)
        claims = self._books.claim(limit)
        if claims is None:
            return
        self._assign(claims)
        self._may_have_more, self._is_empty = len(claims) == limit, not claims
        if not self._may_have_more:
            wait = self._polling.seconds(len(claims), self._books.seconds_until_message())
            self._claim_at = time.monotonic() + wait

    def _is_worth_it(self, room: int) -> bool:
        """While all children are busy, few large claims cost less than many small ones."""
        if any(one.is_ready and not one.assigned for one in self._pool.children):
            return True
        return room * 2 >= self._conf.claim_batch

    def _assign(self, claims: list[Claim]) -> None:
        batches: dict[int, list[Claim]] = {at: [] for at in range(len(self._pool.children))}
        room = {at: one.room(self._conf.claim_batch) for at, one in enumerate(self._pool.children)}
        load = {at: len(one.assigned) for at, one in enumerate(self._pool.children)}
        for claim in claims:
            at = min((at for at in batches if room[at] > 0), key=lambda at: load[at])
            batches[at].append(claim)
            room[at] -= 1
            load[at] += 1
        for at, batch in batches.items():
            if batch:
                self._pool.children[at].assign(batch)

    # Beginning and end

    @contextmanager
    def _services(self) -> Iterator[None]:
        read, write = os.pipe()
        self._selector.register(read, selectors.EVENT_READ, ("wake", None))
        self._selector.register(self._stop.fileno(), selectors.EVENT_READ, ("stop", None))

        def wake() -> None:
            os.write(write, b"!")

        def on_lost(tokens: set[UUID]) -> None:
            self._lost.put(tokens)
            wake()

        keeper = Keeper(self._store, self._holdings, self._conf, beat=self._registration.beat, on_lost=on_lost)
        self._registration.announce()
        keeper.start()
        self._books.deposits.start(wake)
        try:
            yield
        finally:
            keeper.stop()
            self._books.deposits.stop()
            self._pool.close()
            self._listener.close()
            self._selector.close()
            os.close(read)
            os.close(write)
            self._registration.sign_off()
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
        for one in self._pool.children:
            if time.monotonic() >= self._drain_until and one.assigned:
                one.kill("stopped")
            else:
                one.recall()

    def _is_over(self) -> bool:
        if any(one.assigned for one in self._pool.children):
            return False
        if self._drain_until is not None:
            return self._books.is_clear or time.monotonic() > self._drain_until + LAST_WORDS_SECONDS
        return self.options.once and self._is_empty and self._books.is_clear


def _failure(kind: str, text: str) -> Failure:
    return Failure(type=kind, message=text)
