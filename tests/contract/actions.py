"""What the contract's tests ask of a store, in a word each."""

from __future__ import annotations

import selectors
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from django.db import connections

from pg_queue.domain import Claim, Death, Failure, NewMessage, Retry, Settled, Settlement, Success
from pg_queue.ports import Listener
from tests.contract.harness import Harness
from tests.contract.mongodb_harness import require_isolation

LEASE = timedelta(seconds=60)
PATIENCE_SECONDS = 30.0
"""How long a test waits for what must come."""
FAILURE = Failure(type="ValueError", message="no", traceback="…")


def new(task: str = "noop", **fields: Any) -> NewMessage:
    return NewMessage(task=task, **fields)


def claim(harness: Harness, limit: int = 10, *queues: str, worker: str = "w1") -> list[Claim]:
    return harness.store.claim(queues=queues or ("default",), limit=limit, lease=LEASE, worker=worker)


def settle(harness: Harness, one: Claim, outcome: Success | Retry | Death) -> Settled:
    settlement = Settlement(message_id=one.message.id, token=one.token, outcome=outcome)
    return harness.store.settle([settlement])[one.token]


def settle_all(harness: Harness, claims: Sequence[Claim], outcome: Success | Retry | Death) -> list[Settled]:
    """Settle these in one batch, all alike; the answers in their order."""
    answers = harness.store.settle(
        [Settlement(message_id=one.message.id, token=one.token, outcome=outcome) for one in claims]
    )
    return [answers[one.token] for one in claims]


def pair(one: Claim) -> tuple[uuid.UUID, uuid.UUID]:
    return one.message.id, one.token


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in threads that start together, each on connections of its own."""
    require_isolation()
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return work(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def is_readable(listener: Listener, within_seconds: float) -> bool:
    descriptor = listener.fileno()
    assert descriptor is not None
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(within_seconds))


def hears(listener: Listener, within_seconds: float = PATIENCE_SECONDS) -> bool:
    """Wait until one of the listener's queues is named; what else it is told does not count."""
    deadline = time.monotonic() + within_seconds
    while (left := deadline - time.monotonic()) > 0:
        if is_readable(listener, left) and listener.hear():
            return True
    return False
