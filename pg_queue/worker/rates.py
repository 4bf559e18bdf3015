"""Claims of queues whose messages may begin only so often.

A limited queue is asked by itself, and for no more than its bucket of tokens gives. While the bucket is known to be
empty the store is not asked at all. So the limit holds among all workers, and waiting for it costs nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from pg_queue.domain import Claim, RateLimit
from pg_queue.ports import Limits, QueueStore
from pg_queue.storage.unavailable import UNAVAILABLE

logger = logging.getLogger(__name__)


class Claims:
    """One worker's claims on a store. For one thread."""

    def __init__(self, store: QueueStore, limits: Mapping[str, RateLimit], queues: Sequence[str]) -> None:
        """`queues`: those that it will ever ask for. Raises: CapabilityMissing, where one has a limit."""
        self._store = store
        self._limits = {queue: limits[queue] for queue in queues if queue in limits}
        self._buckets: Limits | None = store.limits if self._limits else None
        self._free_at: dict[str, float] = {}
        """When a bucket that was found empty has a token, by `time.monotonic`."""

    def claim(self, queues: Sequence[str], *, limit: int, lease: timedelta, worker: str) -> list[Claim]:
        """As `QueueStore.claim`, within the limits of the queues. Raises: what the store does, unless it gave some."""
        claims: list[Claim] = []
        for part in self._parts(queues):
            wanted = limit - len(claims)
            if wanted <= 0:
                break
            try:
                claims += self._claim(part, wanted, lease, worker)
            except UNAVAILABLE:
                if not claims:
                    raise
                logger.warning("worker.claim_cut_short claimed=%s", len(claims), exc_info=True)
                break
        return claims

    def next_due_seconds(self, queues: Sequence[str]) -> float | None:
        """As `QueueStore.next_due_seconds`; of a queue whose bucket is empty, not before there is a token again."""
        blocked = [queue for queue in queues if self._blocked_seconds(queue) > 0]
        found = [self._store.next_due_seconds([queue for queue in queues if queue not in blocked])]
        for queue in blocked:
            due = self._store.next_due_seconds([queue])
            found.append(None if due is None else max(due, self._blocked_seconds(queue)))
        return min((due for due in found if due is not None), default=None)

    def _parts(self, queues: Sequence[str]) -> Iterator[list[str]]:
        """Limited queues alone, the others together as far as they are neighbours; in the order given."""
        part: list[str] = []
        for queue in queues:
            if queue not in self._limits:
                part.append(queue)
                continue
            if part:
                yield part
            yield [queue]
            part = []
        if part:
            yield part

    def _claim(self, queues: list[str], wanted: int, lease: timedelta, worker: str) -> list[Claim]:
        bucket, name = self._limits.get(queues[0]), queues[0]
        if bucket is None:
            return list(self._store.claim(queues=queues, limit=wanted, lease=lease, worker=worker))
        assert self._buckets is not None, "there is a limit"
        if self._blocked_seconds(name) > 0 or self._store.next_due_seconds(queues) != 0:
            return []
        grant = self._buckets.take(name, bucket, wanted=wanted)
        self._free_at[name] = time.monotonic() + grant.wait_seconds
        if not grant.count:
            return []
        claims = list(self._store.claim(queues=queues, limit=grant.count, lease=lease, worker=worker))
        if unused := grant.count - len(claims):
            self._put_back(name, bucket, unused)
        return claims

    def _put_back(self, name: str, bucket: RateLimit, count: int) -> None:
        """What cannot be put back is only missing for a while."""
        assert self._buckets is not None, "there is a limit"
        try:
            self._buckets.give_back(name, bucket, count=count)
        except UNAVAILABLE:
            logger.warning("worker.tokens_lost queue=%s count=%s", name, count, exc_info=True)
        self._free_at.pop(name, None)

    def _blocked_seconds(self, queue: str) -> float:
        return self._free_at.get(queue, 0.0) - time.monotonic()
