"""The parent's dealings with the store: claims in, outcomes out, and patience while the database is away."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from django.db import DatabaseError, DataError, IntegrityError, connections

from pg_queue.domain import Claim, Death, Failure, Settled, Settlement
from pg_queue.health.metrics import CLAIM_SECONDS, DATABASE_ERRORS, RUNNING, SETTLE_SECONDS, TASKS
from pg_queue.ports import QueueStore
from pg_queue.results.ports import ResultStore
from pg_queue.settings import QueueSettings
from pg_queue.storage.unavailable import UNAVAILABLE
from pg_queue.worker.deposits import Deposits
from pg_queue.worker.execution import Outcome
from pg_queue.worker.followers import settle
from pg_queue.worker.holdings import Holdings
from pg_queue.worker.options import Figures, WorkerOptions
from pg_queue.worker.progress import Board
from pg_queue.worker.rates import Claims
from pg_queue.worker.shares import Shares

logger = logging.getLogger(__name__)
T = TypeVar("T")

SETTLE_BATCH = 500
RETRY_SECONDS, RETRY_MAX_SECONDS = 0.1, 5.0
BEHIND_SECONDS = 0.5
"""How soon a worker looks again whether it may claim, while the store of results is behind."""


class Books:
    """What this worker claimed, and what it has yet to tell the store. The main loop's own."""

    def __init__(
        self,
        store: QueueStore,
        options: WorkerOptions,
        conf: QueueSettings,
        holdings: Holdings,
        results: ResultStore | None = None,
    ) -> None:
        """`results` None: values stay in the queue's own rows."""
        self.figures, self.board = Figures(), Board()
        self._store, self._options, self._conf, self._holdings = store, options, conf, holdings
        self._lease = timedelta(seconds=conf.lease_seconds)
        self._claims = Claims(store, conf.limits, options.queues)
        self._shares = Shares(options.queues, options.weights)
        self.deposits = Deposits(
            results,
            namespace=store.namespace if results is not None else "",
            give_up_seconds=conf.results.give_up_seconds if conf.results else 0.0,
            most_waiting=2 * conf.claim_batch,
        )
        self._unsettled: list[Settlement] = []
        self._unreleased: list[Claim] = []
        self._retry_at = 0.0
        self._delay = RETRY_SECONDS

    @property
    def is_clear(self) -> bool:
        """True when the store knows everything."""
        return not self.pending

    @property
    def pending(self) -> int:
        """Outcomes and claims to give back that the store does not know of yet."""
        return len(self._unsettled) + len(self._unreleased) + self.deposits.pending

    def seconds_until_due(self) -> float:
        """Seconds until `flush` has something to do."""
        if self._unsettled or self._unreleased:
            return self._seconds_until_retry()
        return self.deposits.seconds_until_due()

    def seconds_until_claim(self) -> float:
        """Seconds for which nothing is claimed, because the database or the store of results has just failed."""
        return max(self._seconds_until_retry(), BEHIND_SECONDS if self.deposits.is_behind else 0.0)

    def claim(self, limit: int) -> list[Claim] | None:
        """Claim at most `limit` messages; None when the database cannot be asked, or results could not be kept."""
        if self.deposits.is_behind:
            return None
        claims = self._shares.claim(limit, self._claim)
        if claims:
            RUNNING.set(len(self._holdings))
        return claims

    def _claim(self, queues: Sequence[str], limit: int) -> list[Claim] | None:
        def claim() -> list[Claim]:
            with CLAIM_SECONDS.time():
                return self._claims.claim(queues, limit=limit, lease=self._lease, worker=self._options.worker_id)

        claims = self._attempt("claim", claim)
        if claims:
            self._holdings.add(claims)
        return claims

    def seconds_until_message(self) -> float | None:
        """Seconds until a message of these queues is due; None: none is there, or the database cannot be asked."""
        return self._attempt("next_due", lambda: self._claims.next_due_seconds(self._options.queues))

    def report(self, claim: Claim, outcome: Outcome) -> None:
        """Take note of an outcome; `flush` settles it, when its result is where it is to be kept."""
        self.board.forget(claim.token)
        if self.deposits.takes(claim, outcome):
            self.deposits.add(claim, outcome)
            return
        self._unsettled.append(Settlement(message_id=claim.message.id, token=claim.token, outcome=outcome))

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Take note of claims that never began; `flush` releases them."""
        self._unreleased.extend(claims)

    def write_off(self, claim: Claim) -> None:
        """The claim is somebody else's now: nothing is settled."""
        self._holdings.drop([claim.token])
        self._count({claim.token: Settled.LOST}, {claim.token: claim.message.id})

    def flush(self) -> None:
        """Tell the store everything, in batches, as far as the database answers."""
        self._unsettled += self.deposits.flush()
        while self._unsettled and self._settle_batch():
            pass
        if self._unreleased:
            self._release()
        if reports := self.board.due():
            self._attempt("progress", lambda: self._store.note_progress(reports))
        RUNNING.set(len(self._holdings))

    def _settle_batch(self) -> bool:
        batch = self._unsettled[:SETTLE_BATCH]
        message_ids = {settlement.token: settlement.message_id for settlement in batch}
        self._holdings.leaving(message_ids)
        answers = self._attempt("settle", lambda: self._settle(batch))
        if answers is None:
            return False
        del self._unsettled[: len(batch)]
        self._holdings.drop(message_ids)
        self._count(answers, message_ids)
        return True

    def _settle(self, batch: list[Settlement]) -> dict[UUID, Settled]:
        """One outcome that PostgreSQL cannot hold must not keep the others from being settled."""
        try:
            with SETTLE_SECONDS.time():
                return settle(self._store, batch)
        except DatabaseError as error:
            if not _is_about_the_rows(error):
                raise
            if len(batch) == 1:
                return self._store.settle([_refused(batch[0], error)])
            half = len(batch) // 2
            return self._settle(batch[:half]) | self._settle(batch[half:])

    def _release(self) -> None:
        pairs = [(claim.message.id, claim.token) for claim in self._unreleased]
        tokens = [token for _, token in pairs]
        self._holdings.leaving(tokens)
        if self._attempt("release", lambda: self._store.release(pairs)) is not None:
            self._holdings.drop(tokens)
            self._unreleased.clear()

    def _seconds_until_retry(self) -> float:
        return max(0.0, self._retry_at - time.monotonic())

    def _attempt(self, doing: str, action: Callable[[], T]) -> T | None:
        if self._seconds_until_retry() > 0:
            return None
        try:
            result = action()
        except UNAVAILABLE as error:
            DATABASE_ERRORS.labels(doing).inc()
            logger.warning("worker.database_failed doing=%s pending=%s; %s", doing, self.pending, str(error).strip())
            connections.close_all()
            self._retry_at = time.monotonic() + self._delay
            self._delay = min(self._delay * 2, RETRY_MAX_SECONDS)
            return None
        self._delay = RETRY_SECONDS
        return result

    def _count(self, answers: Mapping[UUID, Settled], message_ids: Mapping[UUID, UUID]) -> None:
        counts = Counter(answers.values())
        for answer, count in counts.items():
            TASKS.labels(answer.value).inc(count)
        self.figures.finished += counts[Settled.DONE]
        self.figures.failed += counts[Settled.RETRYING] + counts[Settled.DEAD]
        self.figures.lost += counts[Settled.LOST]
        if counts[Settled.LOST]:
            for token in [token for token, answer in answers.items() if answer is Settled.LOST]:
                logger.warning("worker.claim_lost message=%s", message_ids[token])


def _is_about_the_rows(error: DatabaseError) -> bool:
    """SQLSTATE classes 22 (data), 23 (constraints), 54 (limits), or their like: trying the same again fails again."""
    sqlstate = getattr(error.__cause__, "sqlstate", None) or ""
    return sqlstate[:2] in {"22", "23", "54"} or isinstance(error, DataError | IntegrityError)


def _refused(settlement: Settlement, error: DatabaseError) -> Settlement:
    failure = Failure(type="task.result_refused", message=f"the store cannot hold the outcome: {str(error).strip()}")
    return Settlement(message_id=settlement.message_id, token=settlement.token, outcome=Death(failure=failure))
