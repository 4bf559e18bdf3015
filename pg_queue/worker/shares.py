"""How what is claimed is divided among several queues: in their order, or by weight.

By weight (stride scheduling): each message that is claimed costs its queue the inverse of its weight, and the next one
is the queue's that has paid least. So while several have work, each gets its share within a few messages of it, and a
queue that has none leaves its part to the others, and is not owed it later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pg_queue.domain import Claim

Ask = Callable[[Sequence[str], int], list[Claim] | None]
"""Claims at most so many from these queues, in this order; None: the store cannot be asked."""


class Shares:
    """The queues of one worker. Its loop's own."""

    def __init__(self, queues: Sequence[str], weights: Mapping[str, int] | None = None) -> None:
        """`weights` None: in the order of `queues`."""
        self._queues, self._weights = tuple(queues), weights
        self._paid = dict.fromkeys(queues, 0.0)

    def claim(self, limit: int, ask: Ask) -> list[Claim] | None:
        """Claim at most `limit`; None where the store could not be asked at once. What was claimed is returned."""
        if self._weights is None:
            return ask(self._queues, limit)
        claims: list[Claim] = []
        idle: set[str] = set()
        for queue, quota in self._quotas(limit).items():
            got = ask([queue], quota)
            if got is None:
                self._note(claims, idle)
                return claims or None
            claims += got
            if len(got) < quota:
                idle.add(queue)
        others = sorted(self._paid.keys() - idle, key=self._paid.__getitem__)
        if idle and others:  # they may have what the idle ones have left
            claims += ask(others, limit - len(claims)) or []
        self._note(claims, idle)
        return claims

    def _quotas(self, limit: int) -> Counter[str]:
        """Of the next `limit` messages, how many each queue's are, if all have enough."""
        paid, quotas = dict(self._paid), Counter[str]()
        for _ in range(limit):
            queue = min(paid, key=paid.__getitem__)
            paid[queue] += self._cost(queue)
            quotas[queue] += 1
        return quotas

    def _note(self, claims: Sequence[Claim], idle: set[str]) -> None:
        for claim in claims:
            self._paid[claim.message.queue] += self._cost(claim.message.queue)
        level = min((paid for queue, paid in self._paid.items() if queue not in idle), default=None)
        if level is None:
            level = max(self._paid.values())
        for queue in idle:
            self._paid[queue] = max(self._paid[queue], level)
        least = min(self._paid.values())
        self._paid = {queue: paid - least for queue, paid in self._paid.items()}

    def _cost(self, queue: str) -> float:
        assert self._weights is not None
        return 1 / self._weights[queue]
