"""What executions have sent on, where the default store has no transactions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest

from pg_queue.domain import NewMessage, Settled, Settlement, Success
from pg_queue.ports import QueueStore
from pg_queue.worker.followers import settle
from tests.contract.mongodb_harness import MongoHarness

CELERY = {"celery": {"headers": {}}}


@pytest.fixture
def store() -> Iterator[QueueStore]:
    harness = MongoHarness()
    with harness.installed():
        harness.clear()
        yield harness.store


def test_one_whose_id_lives_already_gets_one_of_its_own_and_its_message_is_settled(store: QueueStore) -> None:
    """As after a settlement that was cut off: what it sent on had been enqueued by then."""
    lives, free = uuid.uuid4(), uuid.uuid4()
    store.enqueue([NewMessage(task="noop", queue="next", id=lives, headers=CELERY)])
    store.enqueue([NewMessage(task="noop")])
    (held,) = store.claim(queues=["default"], limit=1, lease=timedelta(seconds=60), worker="w")
    followers = [NewMessage(task="noop", queue="next", id=one, headers=CELERY) for one in (free, lives)]
    settlement = Settlement(message_id=held.message.id, token=held.token, outcome=Success(followers=followers))
    assert settle(store, [settlement]) == {held.token: Settled.DONE}
    found = {message.id: message for message in store.operations.browse(queue="next", limit=10)}
    assert len(found) == 3
    assert {lives, free} <= set(found)
    (renamed,) = [message for message in found.values() if message.id not in (lives, free)]
    assert renamed.headers["celery"]["headers"]["id"] == str(lives)
