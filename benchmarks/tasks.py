"""The tasks of benchmarks: one that shows when work begins, one of which nothing is kept."""

from __future__ import annotations

import time

from pg_queue.api import task


@task("bench.begun_at")
def begun_at() -> float:
    """The instant at which this very line runs, in seconds since the epoch by this machine's clock."""
    return time.time()


@task("bench.forgotten", result="none")
def forgotten() -> None:
    """Do nothing, and leave nothing."""
