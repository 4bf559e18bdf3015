"""Results kept elsewhere by a worker of threads, as by one of processes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pg_queue.api import get_result, result_store
from pg_queue.domain import Message, MessageState, NewMessage
from pg_queue.storage import store
from pg_queue.worker.embedded import EmbeddedWorker
from pg_queue.worker.options import WorkerOptions
from tests.gate import Gate, gate_to
from tests.pg_queue.worker.conftest import until
from tests.places import PLACES

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.services("redis"),
]


@pytest.fixture
def gate(settings: Any, tmp_path: Path) -> Iterator[Gate]:
    """What a worker's results go through, to Redis."""
    with PLACES["redis"](tmp_path) as place, gate_to(place.address) as made:
        settings.PG_QUEUE = {"RESULTS": place.at("127.0.0.1", made.port).results}
        yield made


@pytest.fixture
def worker(gate: Gate) -> Iterator[EmbeddedWorker]:
    """A worker of two threads in this process."""
    started = EmbeddedWorker(WorkerOptions(queues=("default",), concurrency=2, drain_seconds=1.0))
    started.start()
    yield started
    started.stop()


def add(*args: Any) -> uuid.UUID:
    return store().enqueue([NewMessage(task="echo", args=args)])[0]


def find(message_id: uuid.UUID) -> Message:
    return store().get([message_id])[message_id]


def ended(message_id: uuid.UUID) -> Message:
    until(lambda: find(message_id).state is MessageState.SUCCEEDED, what=f"end of {message_id}")
    return find(message_id)


def test_what_threads_return_is_in_the_store_when_the_message_is_settled(worker: EmbeddedWorker) -> None:
    message_id = add("there")
    assert ended(message_id).result is None
    result = get_result(message_id)
    assert result is not None
    assert result.value_or_raise()["args"] == ["there"]


def test_a_message_is_settled_when_the_store_is_back(worker: EmbeddedWorker, gate: Gate) -> None:
    ended(add("before"))
    gate.shut()
    message_id = add("after")
    until(lambda: worker._worker._books.deposits.is_behind, what="the store to be missed")
    assert find(message_id).state is MessageState.RUNNING
    gate.open()
    assert ended(message_id).attempts == 1
    result = get_result(message_id)
    assert result is not None
    assert result.value_or_raise()["args"] == ["after"]


def test_a_worker_that_stops_while_the_store_is_away_gives_its_messages_back(
    worker: EmbeddedWorker, gate: Gate
) -> None:
    ended(add("before"))
    gate.hold()
    message_id = add("after")
    until(lambda: worker._worker._books.deposits.is_behind, what="the store to be missed")
    assert worker.stop()
    message = find(message_id)
    assert message.state is MessageState.WAITING
    assert message.error is not None
    assert message.error.type == "results.unavailable"
    elsewhere = result_store()
    assert elsewhere is not None
    gate.let_go()
    assert message_id not in elsewhere.get([uuid.uuid4()])
