"""How one worker is set up."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pg_queue.errors import Configuration, InvalidMessage
from pg_queue.ports import QueueStore
from pg_queue.storage import store
from pg_queue.validation import check_queue

MOST_AT_ONCE = 1000
HEAVIEST = 1000
"""Of the weights of queues."""


def new_worker_id() -> str:
    """host:pid:start, unique for ever."""
    return f"{socket.gethostname()}:{os.getpid()}:{time.time_ns() // 1000}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a worker was started with."""

    queues: tuple[str, ...]
    """In the order in which they are served."""
    concurrency: int
    drain_seconds: float
    pool: str = "thread"
    """What runs the tasks: a name among `pg_queue.worker.pools.POOLS`."""
    weights: Mapping[str, int] | None = None
    """Shares of the queues in what is claimed while several have work; None: in the order of `queues`."""
    max_tasks_per_child: int | None = None
    """A child process is replaced after so many executions; None: never for that."""
    max_memory_per_child_mb: int | None = None
    """One that occupies more memory than this after an execution is replaced; in MiB; None: never for that."""
    once: bool = False
    """End when nothing is due any more."""
    store: str = "default"
    """Alias of the store that it serves."""
    namespace: str | None = None
    """The namespace in it; None: the one of the store's settings."""
    worker_id: str = field(default_factory=new_worker_id)
    """host:pid:start, unique for ever."""

    def check(self) -> None:
        """Raises: Configuration naming the option that no worker can have."""
        if not _are_names(self.queues):
            raise _wrong("queues", "a tuple with the name of a queue", self.queues)
        for name in self.queues:
            try:
                check_queue(name)
            except InvalidMessage as error:
                raise _wrong("queues", f"names of {error.expected}", name) from error
        if self.weights is not None and self.weights.keys() != set(self.queues):
            raise _wrong("weights", "one for each of the queues", self.weights)
        if self.concurrency not in range(1, MOST_AT_ONCE + 1):
            raise _wrong("concurrency", f"a number from 1 to {MOST_AT_ONCE}", self.concurrency)
        if not 0 <= self.drain_seconds < math.inf:  # false for NaN
            raise _wrong("drain_seconds", "a number of seconds, 0 or more", self.drain_seconds)

    def find_store(self) -> QueueStore:
        """The store that it serves. Raises: Configuration, CapabilityMissing."""
        found = store(self.store)
        return found if self.namespace is None else found.within(self.namespace)


@dataclass(slots=True)
class Figures:
    """What a worker has done since it started."""

    finished: int = 0
    failed: int = 0
    """Executions that did not succeed, also those that will be retried."""
    lost: int = 0

    @property
    def ended(self) -> int:
        """Executions that are over."""
        return self.finished + self.failed + self.lost


def parse_queues(text: str) -> tuple[tuple[str, ...], dict[str, int] | None]:
    """The queues and their weights of `a,b` (in this order, no weights) or `a=3,b=1`.

    Raises: ValueError saying what was expected, and InvalidMessage for what is no queue's name.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ValueError("names separated by commas")
    if not any("=" in part for part in parts):
        for name in parts:
            check_queue(name)
        return tuple(dict.fromkeys(parts)), None
    weights: dict[str, int] = {}
    for part in parts:
        name, _, weight = (piece.strip() for piece in part.partition("="))
        if not weight.isascii() or not weight.isdecimal() or not 1 <= int(weight) <= HEAVIEST:
            raise ValueError(f"all of them with a weight from 1 to {HEAVIEST}, as in a=3,b=1, or none of them")
        check_queue(name)
        weights[name] = int(weight)
    return tuple(weights), weights


def _are_names(queues: object) -> bool:
    """A text alone would be taken for queues of one letter each."""
    return isinstance(queues, tuple) and bool(queues)


def _wrong(option: str, expected: str, got: object) -> Configuration:
    return Configuration(f"{option}: expected {expected}, got: {got!r}")
