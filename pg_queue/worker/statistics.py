"""What a worker says of itself with each heartbeat, for whoever operates it. `WorkerView.statistics` shows it.

| key | |
|---|---|
| `pool` | what runs its tasks |
| `weights` | the shares of its queues; none: they are served in their order |
| `per_second` | executions that have ended since the heartbeat before, in a second |
| `busy` | how much of its concurrency is in use, 0 to 1 |
| `memory_mb` | what the worker and its children occupy, in MiB; none where the system does not say |
| `lost` | claims that were somebody else's in the end, since its start |
| `draining` | it claims nothing more |
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable

from pg_queue.domain import Json
from pg_queue.worker.options import Figures, WorkerOptions


class Statistics:
    """One worker's. For one thread, that which keeps its heart beating."""

    def __init__(
        self,
        options: WorkerOptions,
        figures: Figures,
        *,
        busy: Callable[[], int],
        children: Callable[[], Iterable[int]],
        is_draining: Callable[[], bool],
    ) -> None:
        """`busy`: how many executions are in hand; `children`: the ids of its other processes."""
        self._options, self._figures = options, figures
        self._busy, self._children, self._is_draining = busy, children, is_draining
        self._ended, self._ended_at = 0, time.monotonic()

    def take(self) -> dict[str, Json]:
        """The statistics now. The rate is that since the last time."""
        weights = None if self._options.weights is None else dict(self._options.weights)
        return {
            "pool": self._options.pool,
            "weights": weights,
            "per_second": self._rate(),
            "busy": round(min(1.0, self._busy() / self._options.concurrency), 3),
            "memory_mb": _sum([memory_mb(), *map(memory_mb, self._children())]),
            "lost": self._figures.lost,
            "draining": self._is_draining(),
        }

    def _rate(self) -> float:
        now, ended = time.monotonic(), self._figures.ended
        rate = (ended - self._ended) / max(now - self._ended_at, 1e-3)
        self._ended, self._ended_at = ended, now
        return round(rate, 2)


def memory_mb(process_id: int | None = None) -> int | None:
    """The memory that a process occupies, in MiB, what it shares with others included; None: its own.

    None as an answer: it has ended, or the system does not say.
    """
    try:
        with open(f"/proc/{process_id or 'self'}/statm", "rb") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return None if process_id or sys.platform == "linux" else _most_memory_mb()
    return pages * resource.getpagesize() >> 20


def _most_memory_mb() -> int:
    """The most that this process ever occupied: all that a system without /proc says."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit >> 20


def _sum(parts: Iterable[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
