"""What somebody has put into MongoDB by hand stops nobody: neither who claims, nor the reaper, nor an operator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from pg_queue.domain import MessageState, NewEvent, NewMessage
from pg_queue.errors import InvalidMessage, StoreUnavailable
from pg_queue.ports import QueueStore
from tests.contract.mongodb_harness import MongoHarness

LEASE = timedelta(seconds=60)


@pytest.fixture
def harness() -> Iterator[MongoHarness]:
    made = MongoHarness()
    with made.installed():
        made.clear()
        yield made


@pytest.fixture
def store(harness: MongoHarness) -> QueueStore:
    return harness.store


def put(harness: MongoHarness, **fields: Any) -> None:
    document = {
        "_id": "f" * 32,
        "namespace": "",
        "queue": "default",
        "state": "waiting",
        "priority": 9,
        "run_after": 1,
        "sequence": 0,
        "attempts": 0,
        "max_attempts": 3,
        **fields,
    }
    harness._database["messages"].insert_one({k: v for k, v in document.items() if v is not ...})


def claimed(store: QueueStore) -> int:
    return len(store.claim(queues=["default"], limit=10, lease=LEASE, worker="w"))


@pytest.mark.parametrize("fields", [{"attempts": [1]}, {"attempts": "1"}, {"max_attempts": [3]}, {"_id": 5}], ids=str)
def test_a_claim_goes_past_it(harness: MongoHarness, store: QueueStore, fields: dict[str, Any]) -> None:
    put(harness, **fields)
    store.enqueue([NewMessage(task="noop")])
    assert claimed(store) == 1


@pytest.mark.parametrize("fields", [{"run_after": ...}, {"run_after": None}, {"attempts": "1"}], ids=str)
def test_nobody_waits_for_it_and_the_figures_are_told(
    harness: MongoHarness, store: QueueStore, fields: dict[str, Any]
) -> None:
    put(harness, **fields)
    assert store.next_due_seconds(["default"]) is None
    assert [depth.running for depth in store.depths()] == [0]


@pytest.mark.parametrize(
    "fields", [{"worker": ...}, {"queue": ..., "worker": "w"}, {"max_attempts": [3], "worker": "w"}], ids=str
)
def test_leases_go_on_running_out(harness: MongoHarness, store: QueueStore, fields: dict[str, Any]) -> None:
    (message_id,) = store.enqueue([NewMessage(task="noop")])
    assert claimed(store) == 1
    harness.advance(61)
    put(harness, state="running", lease_until=1, **fields)
    store.expire_claims(limit=10)
    assert store.get([message_id])[message_id].state is MessageState.WAITING


@pytest.mark.parametrize("fields", [{"_id": 5}, {"_id": "no id"}, {"attempts": ...}], ids=str)
def test_a_queue_with_it_is_purged(harness: MongoHarness, store: QueueStore, fields: dict[str, Any]) -> None:
    (message_id,) = store.enqueue([NewMessage(task="noop")])
    put(harness, **fields)
    store.operations.purge("default", reason="", limit=10)
    assert store.get([message_id])[message_id].state is MessageState.CANCELLED


def test_an_id_that_is_given_twice_is_named(store: QueueStore) -> None:
    (taken,) = store.outbox.publish([NewEvent(topic="t", payload=1)])
    for events in ([NewEvent(topic="t", payload=1, id=taken)], [NewEvent(topic="t", payload=1, id=taken)] * 2):
        with pytest.raises(InvalidMessage, match=str(taken)):
            store.outbox.publish(events)


def test_who_confirms_outcomes_learns_that_the_server_is_away(
    store: QueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.enqueue([NewMessage(task="noop", report_to="me")])
    (claim,) = store.claim(queues=["default"], limit=1, lease=LEASE, worker="w")
    store.cancel([claim.message.id])
    outcomes = store.take_outcomes("me", limit=1, hold=LEASE)

    def away(*_: object, **__: object) -> None:
        raise AutoReconnect("cut off")

    monkeypatch.setattr("mongomock.collection.Collection.update_many", away)
    with pytest.raises(StoreUnavailable):
        store.confirm_outcomes("me", outcomes)
