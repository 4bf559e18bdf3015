"""Rows that no operation has written stop nobody."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from pg_queue.domain import Claim, MessageState, NewMessage, Settled, Settlement, Success
from pg_queue.ports import QueueStore
from pg_queue.storage import store
from tests.contract.harness import SqliteHarness

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


@pytest.fixture
def queue(transactional_db: None) -> Iterator[QueueStore]:
    harness = SqliteHarness()
    with harness.installed():
        harness.clear()
        yield store()


def change(column: str, value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE pg_queue_message SET {column} = %s WHERE task = 'bad'", [value])


def claimed(queue: QueueStore) -> list[Claim]:
    return queue.claim(queues=["default"], limit=10, lease=timedelta(seconds=60), worker="w")


@pytest.mark.parametrize(
    ("column", "value"),
    [("run_after", "2020-13-45 00:00:00"), ("enqueued_at", "2020-"), ("args", f"[{'9' * 5000}]"), ("barrier_id", "x")],
)
def test_a_message_that_nobody_can_read_is_buried(queue: QueueStore, column: str, value: str) -> None:
    bad, good = queue.enqueue([NewMessage(task="bad"), NewMessage(task="good")])
    change(column, value)
    assert [claim.message.id for claim in claimed(queue)] == [good]
    assert claimed(queue) == []
    (depth,) = queue.depths()
    assert (depth.waiting, depth.running, depth.dead) == (0, 1, 1)
    assert queue.replay([bad]) == {bad}


def test_a_message_whose_id_is_none_is_buried_under_a_new_one(queue: QueueStore) -> None:
    queue.enqueue([NewMessage(task="bad"), NewMessage(task="good")])
    change("id", "not an id")
    assert [claim.message.task for claim in claimed(queue)] == ["good"]
    (dead,) = queue.operations.dead(limit=9)
    assert dead.error is not None
    assert (dead.task, dead.error.type) == ("bad", "message.unreadable")
    assert queue.replay([dead.id]) == {dead.id}
    assert [claim.message.id for claim in claimed(queue)] == [dead.id]


@pytest.mark.parametrize(
    "continuations",
    ['{"success": [{"task": "t", "colour": "red"}]}', '{"success": 5}', "[]", '{"success": [{"task": {"a": 1}}]}'],
)
def test_continuations_that_nobody_can_read_keep_nothing_from_ending(queue: QueueStore, continuations: str) -> None:
    (bad,) = queue.enqueue([NewMessage(task="bad", on_success=[NewMessage(task="next")])])
    change("continuations", continuations)
    (one,) = claimed(queue)
    settlement = Settlement(message_id=bad, token=one.token, outcome=Success(value=1))
    assert queue.settle([settlement]) == {one.token: Settled.DONE}
    assert queue.get([bad])[bad].state is MessageState.SUCCEEDED
    assert queue.depths() == []


def test_a_callback_that_nobody_can_read_keeps_no_barrier_open(queue: QueueStore) -> None:
    made = queue.barriers.create([NewMessage(task="member")], callback=NewMessage(task="next"))
    parameters: list[Any] = ['{"colour": "red"}', uuid.UUID(str(made.id)).hex]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pg_queue_barrierplan SET callback = %s WHERE barrier_id = %s", parameters)
    (one,) = claimed(queue)
    settlement = Settlement(message_id=one.message.id, token=one.token, outcome=Success())
    assert queue.settle([settlement]) == {one.token: Settled.DONE}
    assert queue.barriers.get([made.id])[made.id].state == "done"
