"""The tasks of benchmarks, by which it is seen when work begins and when it has ended."""

from __future__ import annotations

import time

from benchmarks.peers.drivers.common import note
from pg_queue.api import task


@task("bench.begun_at")
def begun_at() -> float:
    """The instant at which this very line runs, in seconds since the epoch by this machine's clock."""
    return time.time()


@task("bench.noop")
def noop(sent_at: float) -> None:
    """Take the time, where asked."""
    note(sent_at)


@task("bench.forgotten", result="none")
def forgotten(sent_at: float = 0.0) -> None:
    """The same, and nothing is left of it."""
    note(sent_at)


@task("bench.async_noop")
async def async_noop(sent_at: float) -> None:
    """The same, as a coroutine."""
    note(sent_at)
