"""Ends of messages in PostgreSQL: a process that is killed in the midst of one, and rows written by hand."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from pg_queue.domain import Barrier, BarrierState, Death, MessageState, Settled, Settlement, Success
from pg_queue.storage import store
from tests.contract.actions import FAILURE, claim, new, settle
from tests.contract.actors import Actor
from tests.contract.harness import PostgresHarness
from tests.processes import LOCKED_HERE

WAITING = (
    f"SELECT DISTINCT pid FROM pg_locks WHERE {LOCKED_HERE} AND pid = ANY (SELECT pid FROM pg_locks WHERE NOT granted)"
)
"""Sessions of this database that wait for a lock."""

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


@pytest.fixture
def harness() -> PostgresHarness:
    found = PostgresHarness()
    found.clear()
    return found


@pytest.fixture
def doomed(harness: PostgresHarness) -> Iterator[Actor]:
    """A process that is killed, at the latest when the test ends."""
    found = Actor(harness)
    yield found
    found.kill()


def until(condition: Callable[[], Any], timeout: float = 60) -> Any:
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
    return answer


def rows(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def open_barrier(members: int) -> Barrier:
    return store().barriers.create([new() for _ in range(members)], callback=new("callback", queue="after"))


@pytest.mark.processes
def test_a_process_killed_in_the_midst_of_settling_leaves_nothing_of_it(
    harness: PostgresHarness, doomed: Actor
) -> None:
    barrier = open_barrier(2)
    (mine,) = claim(harness, 1)
    (held,) = doomed("claim", limit=1, worker="doomed")
    with transaction.atomic():
        settle(harness, mine, Success())  # holds the barrier's row: the other stands before it, its message deleted
        doomed.begin("settle", claims=[held])
        ((session,),) = until(lambda: rows(WAITING))
        doomed.kill()
    until(lambda: not rows("SELECT FROM pg_stat_activity WHERE pid = %s", session))
    assert store().get(barrier.member_ids)[barrier.member_ids[1]].state is MessageState.RUNNING
    assert store().barriers.get([barrier.id])[barrier.id].remaining == 1
    harness.advance(61)
    assert store().expire_claims(limit=9) == 1
    (again,) = claim(harness)
    assert settle(harness, again, Success()) is Settled.DONE
    assert store().barriers.get([barrier.id])[barrier.id].state is BarrierState.DONE
    assert [one.message.id for one in claim(harness, 9, "after")] == [barrier.callback_id]


def test_barriers_are_told_in_one_order_whatever_the_order_of_the_batch(harness: PostgresHarness) -> None:
    """Else of two who tell both, each may have told one and wait for the other."""
    first, second = sorted(uuid.uuid4() for _ in range(2))
    for barrier_id in (first, second):
        store().barriers.create([new(), new()], id=barrier_id)
    a, b, c, d = claim(harness)

    def settle_both() -> set[Settled]:
        batch = [Settlement(message_id=one.message.id, token=one.token, outcome=Success()) for one in (d, b)]
        try:
            return set(store().settle(batch).values())
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            settle(harness, a, Success())
            other = pool.submit(settle_both)
            until(lambda: rows(WAITING))
            assert settle(harness, c, Success()) is Settled.DONE
        assert other.result(60) == {Settled.DONE}
    assert {one.state for one in store().barriers.get([first, second]).values()} == {BarrierState.DONE}


@pytest.mark.parametrize(
    "continuations",
    [
        "text",
        [1],
        {"success": 1},
        {"success": [1]},
        {"success": [{}]},
        {"success": [{"task": "t", "unknown": 1}]},
        {"success": [{"task": "t", "run_after": "tomorrow"}]},
        {"success": [{"task": "t", "id": 5}]},
        {"success": [{"task": "t", "priority": 11}]},
        {"success": [{"task": "t", "priority": {}}]},
        {"success": [{"task": "t" * 300}]},
        {"success": [{"task": "t", "queue": []}]},
    ],
)
def test_continuations_written_by_hand_that_cannot_be_read_stop_nobody(
    harness: PostgresHarness, continuations: Any
) -> None:
    (message_id, other) = store().enqueue([new(on_success=[new("never")]), new(on_success=[new("next")])])
    rows("UPDATE pg_queue_message SET continuations = %s WHERE id = %s", json.dumps(continuations), message_id)
    for one in claim(harness):
        assert settle(harness, one, Success()) is Settled.DONE
    assert {m.state for m in store().get([message_id, other]).values()} == {MessageState.SUCCEEDED}
    assert [one.message.task for one in claim(harness)] == ["next"]


@pytest.mark.parametrize("outcome", [Success(), Death(failure=FAILURE)])
@pytest.mark.parametrize("damage", ["UPDATE pg_queue_barrier SET remaining = 1", "DELETE FROM pg_queue_barrierplan"])
def test_a_barrier_changed_by_hand_stops_nobody(
    harness: PostgresHarness, damage: str, outcome: Success | Death
) -> None:
    open_barrier(3)
    rows(damage)
    for one in claim(harness):
        assert settle(harness, one, outcome) is not Settled.LOST


def test_barriers_without_their_row_stop_nobody(harness: PostgresHarness) -> None:
    open_barrier(2)
    rows("DELETE FROM pg_queue_barrierplan")
    rows("DELETE FROM pg_queue_barrier")
    assert [settle(harness, one, Success()) for one in claim(harness)] == [Settled.DONE] * 2


def test_locks_that_have_expired_are_deleted(harness: PostgresHarness) -> None:
    held, expired = timedelta(days=1), timedelta(seconds=1)
    for number in range(3):
        store().locks.acquire(f"expired-{number}", ttl=expired)
    store().locks.acquire("held", ttl=held)
    harness.advance(2)
    assert [store().retain(limit=2) for _ in range(3)] == [2, 1, 0]
    assert rows("SELECT name FROM pg_queue_lock") == [("held",)]
