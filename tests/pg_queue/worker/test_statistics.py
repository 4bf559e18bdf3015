"""What a worker says of itself with its heartbeats."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from pg_queue.api import task, workers
from pg_queue.worker.options import Figures, WorkerOptions
from pg_queue.worker.statistics import Statistics, memory_mb
from tests.pg_queue.worker.conftest import Start, add, outcome, until


def test_the_rate_is_that_since_the_last_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pg_queue.worker.statistics.time.monotonic", lambda: now[0])
    figures = Figures()
    options = WorkerOptions(queues=("a", "b"), concurrency=4, drain_seconds=1, pool="thread", weights={"a": 3, "b": 1})
    taken = Statistics(options, figures, busy=lambda: 3, children=list, is_draining=lambda: False)
    figures.finished, figures.failed, figures.lost, now[0] = 40, 8, 2, 105.0
    first = taken.take()
    assert first["per_second"] == 10.0
    assert (first["pool"], first["weights"], first["busy"], first["lost"]) == ("thread", {"a": 3, "b": 1}, 0.75, 2)
    now[0] = 110.0
    assert taken.take()["per_second"] == 0


def test_memory_counts_every_process_that_is_still_there() -> None:
    own = memory_mb()
    assert own is not None
    assert own > 10
    assert abs(own - (memory_mb(os.getpid()) or 0)) < 10
    assert memory_mb(2**22 + 1) is None


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
@pytest.mark.usefixtures("own_tasks")
def test_a_worker_shows_what_it_does(start: Start, settings: Any) -> None:
    settings.PG_QUEUE = {"HEARTBEAT_SECONDS": 0.1}
    go, begun = threading.Event(), threading.Event()

    @task("test.busy")
    async def busy() -> None:
        begun.set()
        while not go.is_set():
            await asyncio.sleep(0.01)

    worker = start(pool="asyncio", concurrency=4)
    message_id = add("test.busy")
    assert begun.wait(30)

    def said() -> dict[str, Any]:
        (one,) = workers()
        return one.statistics

    until(lambda: said().get("busy") == 0.25, what="one of four to be shown as busy")
    assert said()["pool"] == "asyncio"
    assert said()["memory_mb"] > 10
    assert not said()["draining"]
    go.set()
    outcome(message_id)
    until(lambda: said()["busy"] == 0)
    assert worker.stop()
