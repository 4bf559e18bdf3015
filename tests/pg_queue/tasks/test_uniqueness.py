"""Of the same work, one message waits or runs."""

from __future__ import annotations

import threading
import uuid
from datetime import date, timedelta
from typing import Any

import pytest
from django.db import connections

from pg_queue import api
from pg_queue.api import NewMessage, TaskContext, task
from pg_queue.domain import Settlement, Success
from tests.pg_queue.tasks.working import claimed, stored, work

pytestmark = pytest.mark.django_db
TRANSACTION = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


def index(context: TaskContext, shop: int, kind: str = "full", *, dry: bool = False) -> None:
    """Fail for a shop of zero."""
    if not shop:
        raise api.GiveUp("no shop")


@TRANSACTION
def test_while_one_waits_or_runs_its_like_is_it_and_after_its_end_a_new_one() -> None:
    reindex = task("test.index", unique=True)(index)
    first = reindex.enqueue(1)
    assert reindex.enqueue(1) == first
    (claim,) = claimed()
    assert reindex.enqueue(1) == first
    api.store().settle([Settlement(message_id=first, token=claim.token, outcome=Success())])
    second = reindex.enqueue(1)
    assert second != first
    assert reindex.cancel(second) == {second}
    failing = reindex.enqueue(0)
    work()
    assert stored(failing).state is api.MessageState.FAILED
    assert len({first, second, failing, reindex.enqueue(1), reindex.enqueue(0)}) == 5


def test_however_the_arguments_are_passed_they_are_the_same() -> None:
    reindex = task("test.index", unique=True)(index)
    same = {
        reindex.enqueue(1),
        reindex.enqueue(1, "full"),
        reindex.enqueue(shop=1, dry=False),
        api.enqueue("test.index", [1], {"kind": "full"}),
        *reindex.enqueue_many([(1,), {"shop": 1}, reindex.message(1)]),
    }
    assert len(same) == 1
    others = {reindex.enqueue(2), reindex.enqueue(1, "part"), reindex.enqueue(1, dry=True)}
    assert len(same | others) == 4


def test_another_task_with_the_same_arguments_is_other_work() -> None:
    first, second = task("test.index", unique=True)(index), task("test.other", unique=True)(index)
    assert first.enqueue(1) != second.enqueue(1)


@pytest.mark.parametrize("unique", ["shop", ("shop",), ["shop"], lambda shop, kind="full", dry=False: f"shop {shop}"])
def test_it_may_be_some_arguments_that_count(unique: Any) -> None:
    reindex = task("test.index", unique=unique)(index)
    assert reindex.enqueue(1) == reindex.enqueue(1, "part") == reindex.enqueue(shop=1, dry=True)
    assert reindex.enqueue(1) != reindex.enqueue(2)


def test_what_the_type_hints_make_the_same_is_the_same() -> None:
    @task("test.dated", unique=True, validate="inputs")
    def dated(day: date) -> None:
        """Do nothing."""

    assert dated.enqueue(date(2030, 1, 1)) == api.enqueue("test.dated", ["2030-01-01"])


@TRANSACTION
def test_it_may_stand_for_a_while_after_its_end() -> None:
    reindex = task("test.index", unique=True, unique_for=timedelta(hours=1))(index)
    first = reindex.enqueue(1)
    work()
    assert stored(first).state is api.MessageState.SUCCEEDED
    assert reindex.enqueue(1) == first
    assert reindex.enqueue(2) != first


@TRANSACTION
def test_of_many_at_one_time_one_is_stored() -> None:
    reindex, ids = task("test.index", unique=True)(index), []
    start = threading.Barrier(6)

    def enqueue() -> None:
        start.wait(30)
        ids.append(reindex.enqueue(1))
        connections.close_all()

    threads = [threading.Thread(target=enqueue) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ids) == 6
    assert len({*ids}) == len(claimed()) == 1


def test_a_key_of_the_callers_own_goes_before() -> None:
    reindex = task("test.index", unique=True)(index)
    assert reindex.options(key="mine").enqueue(1) != reindex.enqueue(1)
    assert reindex.options(key="mine").enqueue(2) == reindex.options(key="mine").enqueue(1)


def test_what_a_schedule_dispatches_is_a_message_of_its_own() -> None:
    task("test.index", unique=True)(index)
    own = NewMessage(task="test.index", args=[1], id=uuid.uuid4())
    assert api.dispatch(own) == own.id
    assert api.dispatch(NewMessage(task="test.index", args=[1])) not in {own.id, api.enqueue("test.index", [1])}


def test_as_a_member_of_a_group_it_is_refused() -> None:
    reindex = task("test.index", unique=True)(index)
    with pytest.raises(api.InvalidMessage, match=r"^members\[0\].task: expected a task without unique in a group"):
        api.group([reindex.message(1)])


def test_arguments_that_do_not_fit_are_refused() -> None:
    task("test.index", unique=True)(index)
    with pytest.raises(api.InvalidArguments, match=r"^args: expected the arguments of test.index\(shop: 'int'"):
        api.enqueue("test.index", [], {"store": 1})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"unique": "store"}, r"unique: expected True, names of its parameters \(shop, kind, dry\) or a function"),
        ({"unique": ()}, "unique: expected True, names of its parameters"),
        ({"unique": 5}, "unique: expected True, names of its parameters"),
        ({"unique_for": 5}, "unique_for: expected None without unique, got: 5"),
        ({"unique": True, "unique_for": -5}, "unique_for: expected a timedelta or a number of seconds, 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_declared(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^task 'test.index': {text}"):
        task("test.index", **options)(index)
