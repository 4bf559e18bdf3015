"""How one worker is set up."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field

from pg_queue.ports import QueueStore
from pg_queue.settings import QueueSettings
from pg_queue.storage import store


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


def time_limit(own: float | None, conf: QueueSettings) -> float | None:
    """The task's own limit, else the setting's; None: none."""
    return conf.task_time_limit_seconds if own is None else own
