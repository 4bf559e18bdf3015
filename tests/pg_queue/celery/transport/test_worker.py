"""A stock Celery worker, in a thread of the test: its event loop, its pool, and its remote control are Celery's own."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore, Reject
from django.db import transaction

from pg_queue.celery.transport import transport as transport_module
from pg_queue.domain import Message as Outcome
from pg_queue.domain import NewMessage
from pg_queue.models import Binding, Broadcast, BrokerQueue, DeadLetter, Message, Result
from pg_queue.storage import store

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.postgresql("the transport is on PostgreSQL alone"),
]
QUEUE = "stock"
done: list[Any] = []

app = Celery("stock", broker="downbeat://", set_as_current=False, fixups=[])
app.conf.update(
    broker_transport_options={"polling_interval": 0.2},
    task_default_queue=QUEUE,
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
)


@app.task(name="stock.note")
def note(*values: Any) -> list[Any]:
    done.append(list(values))
    return list(values)


@app.task(name="stock.fail")
def fail() -> None:
    done.append("failed")
    raise ZeroDivisionError("by zero")


@app.task(name="stock.again", bind=True, max_retries=3, ignore_result=False)
def again(self: Any, late: bool = False) -> str:
    done.append(self.request.retries)
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return "at last"


@app.task(name="stock.again_late", bind=True, max_retries=3, acks_late=True)
def again_late(self: Any) -> None:
    done.append(self.request.retries)
    if self.request.retries < 2:
        raise self.retry(countdown=0)


@app.task(name="stock.again_inside", bind=True)
def again_inside(self: Any) -> None:
    done.append(self.request.retries)
    with transaction.atomic():
        if self.request.retries < 1:
            raise self.retry(countdown=0)


@app.task(name="stock.again_outside", bind=True)
def again_outside(self: Any) -> None:
    done.append(self.request.retries)
    try:
        with transaction.atomic():
            if self.request.retries < 1:
                raise TimeoutError
    except TimeoutError as error:
        raise self.retry(exc=error, countdown=0) from error


@app.task(name="stock.again_by_itself", bind=True, autoretry_for=(TimeoutError,), default_retry_delay=0)
@transaction.atomic
def again_by_itself(self: Any) -> None:
    done.append(self.request.retries)
    if self.request.retries < 1:
        raise TimeoutError


@app.task(name="stock.ignored")
def ignored() -> None:
    done.append("ignored")
    raise Ignore


@app.task(name="stock.rejected", acks_late=True)
def rejected() -> None:
    done.append("rejected")
    raise Reject("no", requeue=False)


@app.task(name="stock.late", acks_late=True)
def late(value: Any) -> None:
    done.append(value)


@app.task(name="stock.nap")
def nap(seconds: float) -> None:
    done.append("napping")
    time.sleep(seconds)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    transport_module._declared.clear()
    done.clear()


@pytest.fixture(autouse=True, scope="module")
def _close_app() -> Iterator[None]:
    """Its pooled connections, and those of ended threads: a session would keep the database from being dropped."""
    yield
    app.pool.force_close_all()
    gc.collect()


@contextmanager
def working(pool: str = "solo", **options: Any) -> Iterator[Any]:
    """A worker that runs until the block ends."""
    with start_worker(
        app, pool=pool, perform_ping_check=False, shutdown_timeout=30, loglevel="error", **options
    ) as one:
        yield one


def until(happens: Callable[[], Any], seconds: float = 30) -> Any:
    """What `happens` returns when it is true at last."""
    deadline = time.monotonic() + seconds
    while not (value := happens()):
        assert time.monotonic() < deadline, f"not within {seconds} s; done: {done}"
        time.sleep(0.02)
    return value


def outcome_of(message_id: uuid.UUID) -> Outcome:
    """What the one who waits for it is told; waits for it."""
    (outcome,) = until(lambda: store().take_outcomes("ledger", limit=1))
    assert outcome.id == message_id
    return outcome


def stored(task: str, *args: Any, **fields: Any) -> uuid.UUID:
    """A row as a scheduler's tick stores it: no Celery client has published it, and somebody waits for its end."""
    (message_id,) = store().enqueue([NewMessage(task=task, args=args, queue=QUEUE, report_to="ledger", **fields)])
    return message_id


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_stock_worker_runs_tasks_and_nothing_is_left(pool: str) -> None:
    with working(pool, concurrency=3):
        for number in range(40):
            note.delay(number)
        until(lambda: len(done) == 40)
        until(lambda: not Message.objects.exists())
    assert sorted(done) == [[number] for number in range(40)]
    assert not Result.objects.exists()
    assert not Broadcast.objects.exists()
    assert list(BrokerQueue.objects.values_list("name", flat=True)) == [QUEUE]
    assert Binding.objects.values("queue").distinct().count() == 1


def test_an_outcome_is_that_of_the_task_and_not_of_its_acknowledgement() -> None:
    with working():
        assert outcome_of(stored("stock.note", 1)).state == "succeeded"
        bad = stored("stock.fail")
        outcome = outcome_of(bad)
    assert outcome.state == "failed"
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.message) == ("ZeroDivisionError", "by zero")
    assert "in fail" in outcome.error.traceback
    assert DeadLetter.objects.get().id == bad


def test_a_retry_is_the_same_message_until_its_last_attempt() -> None:
    with working():
        message_id = stored("stock.again")
        outcome = outcome_of(message_id)
        assert outcome.state == "succeeded"
        assert outcome.result == "at last"
        assert done == [0, 1, 2]
    assert not Message.objects.exists()


def test_a_late_acknowledgement_and_a_retry_do_not_double_the_task() -> None:
    with working():
        again_late.delay()
        until(lambda: done == [0, 1, 2])
        message_id = stored("stock.again_late")
        assert outcome_of(message_id).state == "succeeded"
        assert done == [0, 1, 2, 0, 1, 2]
    assert not Message.objects.exists()


@pytest.mark.parametrize(("task", "runs"), [(again_inside, [0]), (again_outside, [0, 1]), (again_by_itself, [0, 1])])
def test_a_retry_belongs_to_the_transaction_in_which_it_is_made(task: Any, runs: list[int]) -> None:
    with working():
        task.delay()
        until(lambda: done == runs)
        until(lambda: not Message.objects.exists())
    assert done == runs


def test_a_retry_that_was_rolled_back_is_an_end_that_is_told() -> None:
    with working():
        outcome = outcome_of(stored("stock.again_inside"))
    assert outcome.state == "failed"
    assert outcome.error is not None
    assert outcome.error.type == "celery.retry_lost"
    assert done == [0]


@pytest.mark.parametrize(
    ("task", "state", "error"),
    [("stock.ignored", "succeeded", None), ("stock.rejected", "failed", "celery.rejected")],
)
def test_a_task_that_ends_itself_otherwise_has_an_outcome_too(task: str, state: str, error: str | None) -> None:
    with working():
        outcome = outcome_of(stored(task))
    assert outcome.state == state
    assert (outcome.error.type if outcome.error else None) == error


def test_a_message_that_expired_while_it_waited_is_not_run_and_says_so() -> None:
    expired = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    message_id = stored("stock.note", headers={"expires_at": expired})
    with working():
        outcome = outcome_of(message_id)
    assert outcome.error is not None
    assert outcome.error.type == "message.expired"
    assert not done


def test_a_task_that_no_worker_knows_is_a_dead_letter() -> None:
    with working():
        app.send_task("stock.unknown")
        dead = until(DeadLetter.objects.first)
    assert (dead.task, dead.error["type"]) == ("stock.unknown", "celery.rejected")


def test_a_worker_can_be_inspected_and_told() -> None:
    with working("threads", concurrency=2, hostname="w1@test") as worker:
        inspect = app.control.inspect(timeout=10, destination=["w1@test"])
        assert inspect.ping() == {"w1@test": {"ok": "pong"}}
        assert "stock.note" in inspect.registered()["w1@test"]
        nap.delay(2)
        until(lambda: "napping" in done)
        assert [one["name"] for one in inspect.active()["w1@test"]] == ["stock.nap"]
        assert inspect.stats()["w1@test"]["broker"]["transport"] == "downbeat"
        assert inspect.active_queues()["w1@test"][0]["name"] == QUEUE
        replies = app.control.rate_limit("stock.note", "10/m", reply=True, timeout=10, destination=["w1@test"])
        assert "ok" in replies[0]["w1@test"]
        assert app.control.add_consumer("extra", reply=True, timeout=10, destination=["w1@test"])
        note.apply_async((7,), queue="extra")
        until(lambda: [7] in done)
        assert worker.hostname == "w1@test"


def test_a_revoked_task_is_not_run_and_its_message_is_gone() -> None:
    with working(hostname="w2@test"):
        task_id = str(uuid.uuid4())
        replies = app.control.revoke(task_id, reply=True, timeout=10, destination=["w2@test"])
        assert "ok" in replies[0]["w2@test"]
        note.apply_async((1,), task_id=task_id)
        note.delay(2)
        until(lambda: done == [[2]])
        until(lambda: not Message.objects.exists())


def test_a_task_that_keeps_the_workers_own_thread_keeps_its_message() -> None:
    app.conf.broker_transport_options = {"polling_interval": 0.2, "visibility_timeout": 1.5}
    try:
        with working("solo"):
            nap.apply_async((4,), queue=QUEUE)
            late.delay("after")
            until(lambda: "napping" in done)
            time.sleep(3)
            store().expire_claims(limit=10)  # longer than a lease ago, and renewed
            until(lambda: "after" in done)
            until(lambda: not Message.objects.exists())
    finally:
        app.conf.broker_transport_options = {"polling_interval": 0.2}
    assert done == ["napping", "after"]
