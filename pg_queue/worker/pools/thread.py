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
import selectors
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, ClassVar
from uuid import UUID

from pg_queue.domain import Claim
from pg_queue.errors import Configuration
from pg_queue.settings import QueueSettings
from pg_queue.tasks import TaskInfo, tasks
from pg_queue.worker.limits import limits_of
from pg_queue.worker.pool import Desk
from pg_queue.worker.pools.hands import Hands

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
        self._most_ahead = desk.conf.claim_batch
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
        return self._hands.room(self._most_ahead)

    def start(self) -> None:
        """See the port."""
        self._selector.register(self._hands, selectors.EVENT_READ, lambda: None)  # `turn` reads it

    def take(self, claims: Sequence[Claim]) -> None:
        """See the port."""
        self._hands.take(claims)

    def turn(self) -> None:
        """See the port."""
        for claim, outcome in self._hands.finished():
            if outcome is None:
                self._books.write_off(claim)
            else:
                self._books.report(claim, outcome)
        if (recall_at := self._hands.recall_at()) is not None and recall_at <= time.monotonic():
            self._books.give_back(self._hands.give_back())

    def deadlines(self, now: float) -> Iterator[float]:
        """See the port: when what waits for a thread is given back."""
        if (recall_at := self._hands.recall_at()) is not None:
            yield recall_at

    def lose(self, tokens: Collection[UUID]) -> None:
        """See the port: what cannot be stopped goes on, unless it asks, and its outcome answers `LOST`."""
        self._hands.lose(tokens)
        logger.warning("worker.claims_lost count=%s; they go on, and settle nothing", len(tokens))

    def drain(self, *, is_over: bool) -> None:
        """See the port. What has begun cannot be stopped."""
        self._books.give_back(self._hands.give_back())

    def reload(self) -> None:
        """See the port: code that runs in this process cannot be loaded anew."""
        logger.warning("worker.reload_refused pool=thread; restart it for new code")

    def close(self) -> None:
        """See the port."""
        self._hands.stop()

    def details(self) -> dict[str, Any]:
        """See the port."""
        return {"threads": self._count}
