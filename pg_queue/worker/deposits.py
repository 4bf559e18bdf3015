"""Outcomes whose result has to be in its store before they may be settled, and patience while that store is away.

A thread of its own puts them, so that a store that hangs holds up nothing else: leases are renewed, limits enforced,
signals obeyed. What waits for longer than `give_up_seconds` is settled without: what a task returned is then lost, and
its message is tried again, as `results.unavailable`. A failure is settled as it is, since the queue keeps it too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from django.db import connections

from pg_queue.domain import Claim, Death, Failure, MessageState, Retry, Settlement, Success
from pg_queue.errors import InvalidMessage, ResultRefused
from pg_queue.health.metrics import RESULTS_ERRORS, RESULTS_SECONDS
from pg_queue.results.domain import Outcome
from pg_queue.results.ports import ResultStore
from pg_queue.tasks import keeps_result
from pg_queue.worker.execution import backoff

logger = logging.getLogger(__name__)

BATCH = 500
SLOW_SECONDS = 1.0
"""A batch that takes longer than this keeps the worker from claiming more."""
RETRY_SECONDS, RETRY_MAX_SECONDS = 0.1, 5.0
LAST_CHANCE_SECONDS = 2.0
"""How long a worker that ends still waits for the store, when its drain is over."""

Ended = Success | Retry | Death


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deposit:
    """An outcome on its way into the store."""

    claim: Claim
    ended: Ended
    since: float
    """`time.monotonic` when it was reported."""
    namespace: str

    @property
    def outcome(self) -> Outcome:
        """As the store keeps it."""
        message = self.claim.message
        assert message.started_at is not None, "a claimed message has begun"
        is_success = isinstance(self.ended, Success)
        return Outcome(
            message_id=message.id,
            namespace=self.namespace,
            state=MessageState.SUCCEEDED if is_success else MessageState.FAILED,
            attempts=message.attempts,
            started_at=message.started_at,
            value=self.ended.value if isinstance(self.ended, Success) else None,
            error=None if isinstance(self.ended, Success) else self.ended.failure,
            ttl=None if isinstance(self.ended, Retry) else self.ended.ttl,
        )

    def settled(self) -> Settlement:
        """What to settle once the store has it: the queue's own row then holds no value."""
        return self._settlement(replace(self.ended, value=None) if isinstance(self.ended, Success) else self.ended)

    def refused(self, error: Exception) -> Settlement:
        """What to settle where the store can never hold it."""
        if not isinstance(self.ended, Success):
            return self._settlement(self.ended)
        failure = Failure(type="task.result_refused", message=f"the store of results cannot hold it: {error}")
        return self._settlement(Death(failure=failure, followers=self.ended.followers))

    def given_up(self, error: str) -> Settlement:
        """What to settle where the store could not be reached for too long."""
        if not isinstance(self.ended, Success):
            return self._settlement(self.ended)
        text = f"the task returned, and for {time.monotonic() - self.since:.0f} s its result could not be kept: {error}"
        failure = Failure(type="results.unavailable", message=text)
        return self._settlement(Retry(failure=failure, delay=backoff(self.claim.message)))

    def _settlement(self, ended: Ended) -> Settlement:
        return Settlement(message_id=self.claim.message.id, token=self.claim.token, outcome=ended)


class Writer:
    """A thread that puts one batch after the other. `answers` holds a batch's settlements, or what was raised."""

    def __init__(self, store: ResultStore, wake: Callable[[], object]) -> None:
        self.answers: SimpleQueue[list[Settlement] | Exception] = SimpleQueue()
        self._store, self._wake = store, wake
        self._batches: SimpleQueue[list[Deposit] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)
        self._thread.start()

    def put(self, batch: list[Deposit]) -> None:
        """Put this batch, or, of an empty one, see whether the store answers; what became of it is in `answers`."""
        self._batches.put(batch)

    def end(self, timeout_seconds: float = 0.0) -> None:
        """End after the batch in hand, which wakes nobody any more; wait for that at most so long."""
        self._wake = _wake_nobody
        self._batches.put(None)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                with RESULTS_SECONDS.time():
                    self.answers.put(self._put(batch))
            except Exception as error:  # noqa: BLE001 - a store of the project's own may raise anything; it is tried again
                self.answers.put(error)
            self._wake()
        connections.close_all()

    def _put(self, batch: list[Deposit]) -> list[Settlement]:
        """One result that the store cannot hold must not keep the others out of it."""
        if not batch:
            self._store.now()
            return []
        try:
            self._store.put([deposit.outcome for deposit in batch])
        except (ResultRefused, InvalidMessage) as error:
            if len(batch) == 1:
                return [batch[0].refused(error)]
            half = len(batch) // 2
            return self._put(batch[:half]) + self._put(batch[half:])
        return [deposit.settled() for deposit in batch]


class Deposits:
    """What has to reach the store of results. The main loop's own; `store` None: nothing has to."""

    def __init__(
        self, store: ResultStore | None, *, namespace: str = "", give_up_seconds: float, most_waiting: int
    ) -> None:
        """`namespace`: the tenant whose messages the worker serves."""
        self._store, self._namespace = store, namespace
        self._give_up_seconds, self._most_waiting = give_up_seconds, most_waiting
        self._wake: Callable[[], object] = _wake_nobody
        self._waiting: list[Deposit] = []
        self._sent: list[Deposit] | None = None
        """The batch that the writer has in hand; None when it has none."""
        self._sent_at = 0.0
        self._writer: Writer | None = None
        self._error = ""
        """Why the store did not take the last batch; empty when it did."""
        self._retry_at, self._delay = 0.0, RETRY_SECONDS
        self._close_at: float | None = None

    @property
    def pending(self) -> int:
        """Outcomes that may not be settled yet."""
        return len(self._waiting) + len(self._sent or ())

    @property
    def is_behind(self) -> bool:
        """True while the store does not keep up or cannot be reached: more must not be claimed."""
        is_slow = self._sent is not None and time.monotonic() - self._sent_at > SLOW_SECONDS
        return bool(self._error) or is_slow or len(self._waiting) > self._most_waiting

    def start(self, wake: Callable[[], object]) -> None:
        """`wake` is called in another thread whenever there is an answer for `flush` to return."""
        self._wake = wake

    def stop(self) -> None:
        """End the thread."""
        if self._writer is not None:
            self._writer.end(1.0)

    def close(self) -> None:
        """The worker is about to end: wait for the store only a little longer."""
        if self._close_at is None:
            self._close_at = time.monotonic() + LAST_CHANCE_SECONDS

    def takes(self, claim: Claim, ended: Ended) -> bool:
        """True for what has to be put first: an end that the store is to know of."""
        if self._store is None or not keeps_result(claim.message.task):
            return False
        return not isinstance(ended, Retry) or claim.message.attempts >= claim.message.max_attempts

    def add(self, claim: Claim, ended: Ended) -> None:
        """Take note of an outcome; `flush` returns its settlement when it may be settled."""
        deposit = Deposit(claim=claim, ended=ended, since=time.monotonic(), namespace=self._namespace)
        self._waiting.append(deposit)

    def seconds_until_due(self) -> float:
        """Seconds until `flush` has something to do without having been woken."""
        now = time.monotonic()
        moments = [self._late_at(self._sent_at)] if self._sent is not None else [self._retry_at]
        moments += [self._late_at(deposit.since) for deposit in self._waiting[:1]]
        return max(0.0, min(moments) - now)

    def flush(self) -> list[Settlement]:
        """What may be settled now; and see that the next batch is put."""
        done = self._answered()
        self._abandon_what_hangs()
        done += self._given_up()
        self._send()
        return done

    def _late_at(self, since: float) -> float:
        late_at = since + self._give_up_seconds
        return late_at if self._close_at is None else min(late_at, self._close_at)

    def _answered(self) -> list[Settlement]:
        if self._writer is None or self._sent is None:
            return []
        try:
            answer = self._writer.answers.get_nowait()
        except Empty:
            return []
        if isinstance(answer, Exception):
            self._put_off(f"{type(answer).__name__}: {answer}")
            return []
        self._sent, self._error, self._delay = None, "", RETRY_SECONDS
        return answer

    def _abandon_what_hangs(self) -> None:
        """What the thread may still put one day is what is put again, or older than what will be there by then."""
        if self._sent is None or self._writer is None or time.monotonic() < self._late_at(self._sent_at):
            return
        self._writer.end()
        self._writer = None
        self._put_off(f"it has not answered for {time.monotonic() - self._sent_at:.0f} s")

    def _put_off(self, error: str) -> None:
        RESULTS_ERRORS.inc()
        self._waiting, self._sent, self._error = [*(self._sent or ()), *self._waiting], None, error
        logger.warning("worker.results_failed pending=%s; %s", self.pending, error)
        self._retry_at = time.monotonic() + self._delay
        self._delay = min(self._delay * 2, RETRY_MAX_SECONDS)

    def _given_up(self) -> list[Settlement]:
        now = time.monotonic()
        late = [deposit for deposit in self._waiting if self._late_at(deposit.since) <= now]
        if not late:
            return []
        logger.warning("worker.results_given_up messages=%s; %s", len(late), self._error)
        self._waiting = [deposit for deposit in self._waiting if self._late_at(deposit.since) > now]
        return [deposit.given_up(self._error or "there was no time to ask") for deposit in late]

    def _send(self) -> None:
        """An empty batch too, after a failure: nothing is claimed before the store has answered again."""
        is_wanted = bool(self._waiting) or bool(self._error)
        if self._store is None or self._sent is not None or not is_wanted or time.monotonic() < self._retry_at:
            return
        if self._writer is None:
            self._writer = Writer(self._store, self._wake)
        self._sent, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        self._sent_at = time.monotonic()
        self._writer.put(self._sent)


def _wake_nobody() -> None:
    return
