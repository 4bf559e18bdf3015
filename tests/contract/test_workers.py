"""The workers on record: heartbeats, and who is forgotten when."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pg_queue.domain import WorkerState, WorkerView
from tests.contract.harness import Harness

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
DAY = timedelta(days=1)


def announce(harness: Harness, name: str = "h:1:1", namespace: str = "") -> None:
    harness.store.within(namespace).workers.announce(
        name, host="h", process_id=1, queues=["mail", "default"], concurrency=4
    )


def shown(harness: Harness) -> WorkerView:
    (one,) = harness.store.workers.list()
    return one


def test_a_worker_is_shown_as_it_announced_itself(harness: Harness) -> None:
    announce(harness)
    one = shown(harness)
    assert (one.id, one.host, one.process_id, one.queues, one.concurrency) == ("h:1:1", "h", 1, ["mail", "default"], 4)
    assert (one.running, one.finished, one.failed, one.stopped_at) == (0, 0, 0, None)
    assert one.started_at == one.heartbeat_at
    assert one.started_at.utcoffset() == timedelta()


def test_a_heartbeat_moves_on_and_carries_its_figures(harness: Harness) -> None:
    announce(harness)
    harness.advance(30)
    before = shown(harness)
    assert harness.store.workers.beat("h:1:1", running=3, finished=40, failed=2)
    after = shown(harness)
    assert (after.running, after.finished, after.failed) == (3, 40, 2)
    assert timedelta(seconds=29) < after.heartbeat_at - before.heartbeat_at < timedelta(seconds=60)
    assert after.started_at == before.started_at


def test_a_heartbeat_carries_what_the_worker_says_of_itself(harness: Harness) -> None:
    announce(harness)
    assert shown(harness).statistics == {}
    said = {"pool": "asyncio", "per_second": 1.5, "weights": {"a": 3}, "memory_mb": None}
    assert harness.store.workers.beat("h:1:1", running=0, finished=0, failed=0, statistics=said)
    assert shown(harness).statistics == said
    harness.store.workers.beat("h:1:1", running=0, finished=0, failed=0)
    assert shown(harness).statistics == said, "it stays until something else is said"
    harness.store.workers.beat("h:1:1", running=0, finished=0, failed=0, statistics={"pool": "asyncio"})
    assert shown(harness).statistics == {"pool": "asyncio"}


def test_the_heartbeat_of_a_worker_that_is_not_on_record_is_refused(harness: Harness) -> None:
    assert not harness.store.workers.beat("h:2:2", running=0, finished=0, failed=0)
    assert list(harness.store.workers.list()) == []


def test_one_that_stops_in_good_order_says_so_and_runs_nothing(harness: Harness) -> None:
    announce(harness)
    harness.store.workers.beat("h:1:1", running=3, finished=1, failed=0)
    harness.store.workers.sign_off("h:1:1", finished=4, failed=1)
    one = shown(harness)
    assert (one.running, one.finished, one.failed) == (0, 4, 1)
    assert one.stopped_at is not None
    assert one.stopped_at >= one.started_at


def test_the_last_heard_of_comes_first(harness: Harness) -> None:
    for number in range(3):
        announce(harness, f"h:{number}:1")
        harness.advance(10)
    harness.store.workers.beat("h:1:1", running=0, finished=0, failed=0)
    assert [one.id for one in harness.store.workers.list()] == ["h:1:1", "h:2:1", "h:0:1"]


def test_who_has_not_been_heard_of_for_long_is_forgotten_in_bounded_batches(harness: Harness) -> None:
    for number in range(5):
        announce(harness, f"h:{number}:1")
    harness.advance(DAY.total_seconds() + 60)
    harness.store.workers.beat("h:4:1", running=0, finished=0, failed=0)
    assert [harness.store.workers.forget(older_than=DAY, limit=3) for _ in range(3)] == [3, 1, 0]
    assert [one.id for one in harness.store.workers.list()] == ["h:4:1"]


@pytest.mark.capability("namespaces")
def test_a_tenant_sees_its_own_workers_and_one_reaper_forgets_those_of_all(harness: Harness) -> None:
    announce(harness)
    announce(harness, "h:2:2", namespace="acme")
    acme = harness.store.within("acme").workers
    assert [one.id for one in harness.store.workers.list()] == ["h:1:1"]
    assert [one.id for one in acme.list()] == ["h:2:2"]
    assert not acme.beat("h:1:1", running=9, finished=9, failed=9)
    assert shown(harness).running == 0
    harness.advance(DAY.total_seconds() + 60)
    assert harness.store.workers.forget(older_than=DAY, limit=10) == 2


def test_how_long_a_worker_was_not_heard_of_is_told_by_the_stores_clock(harness: Harness) -> None:
    announce(harness, "w1")
    announce(harness, "w2")
    harness.advance(30)
    harness.store.workers.beat("w2", running=0, finished=0, failed=0)
    harness.store.workers.sign_off("w2", finished=0, failed=0)
    found = {one.id: one for one in harness.store.workers.list()}
    assert found["w1"].silent_seconds == pytest.approx(30, abs=10)
    assert found["w2"].silent_seconds < 10
    assert found["w1"].state(stale_seconds=60) is WorkerState.ACTIVE
    assert found["w1"].state(stale_seconds=10) is WorkerState.STALE
    assert found["w2"].state(stale_seconds=60) is WorkerState.STOPPED
