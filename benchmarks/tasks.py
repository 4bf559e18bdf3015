"""The task by which a benchmark sees when work begins."""

from __future__ import annotations

import time

from pg_queue.api import task


@task("bench.begun_at")
def begun_at() -> float:
    """The instant at which this very line runs, in seconds since the epoch by this machine's clock."""
    return time.time()
