"""How one worker is set up."""

from __future__ import annotations

import math
import os
import socket
import time
from dataclasses import dataclass, field

from pg_queue.errors import Configuration, InvalidMessage
from pg_queue.ports import QueueStore
from pg_queue.settings import QueueSettings
from pg_queue.storage import store
from pg_queue.validation import check_queue

MOST_AT_ONCE = 1000


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


def _are_names(queues: object) -> bool:
    """A text alone would be taken for queues of one letter each."""
    return isinstance(queues, tuple) and bool(queues)


def _wrong(option: str, expected: str, got: object) -> Configuration:
    return Configuration(f"{option}: expected {expected}, got: {got!r}")


def time_limit(own: float | None, conf: QueueSettings) -> float | None:
    """The task's own limit, else the setting's; None: none."""
    return conf.task_time_limit_seconds if own is None else own
