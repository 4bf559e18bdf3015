"""The worker of an event loop: hundreds of `async def` tasks at once, and what stops one."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from pg_queue.api import RetryLater, current_context, current_message, task
from pg_queue.domain import MessageState
from pg_queue.models import Worker as WorkerRow
from pg_queue.storage import store
from pg_queue.worker.pools import event_loop, lanes
from tests.pg_queue.worker.conftest import Start, add, outcome, until

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.usefixtures("own_tasks"),
]

FAST = {"LEASE_SECONDS": 2, "RENEW_SECONDS": 0.2}


@pytest.fixture
def begin(start: Start) -> Callable[..., Any]:
    """Starts workers of an event loop inside this process."""
    return lambda **options: start(**{"pool": "asyncio", "concurrency": 20, **options})


def test_hundreds_of_coroutines_run_at_once_in_one_thread_each_with_its_own_message(begin: Any) -> None:
    count, arrived, all_there = 200, list[str](), asyncio.Event()

    @task("test.meets")
    async def meets() -> list[str]:
        before = current_message()
        arrived.append(threading.current_thread().name)
        if len(arrived) == count:
            all_there.set()
        await asyncio.wait_for(all_there.wait(), 60)
        message = current_message()
        assert message is not None
        assert before is message
        return [str(message.id), threading.current_thread().name]

    begin(concurrency=count)
    ids = [add("test.meets") for _ in range(count)]
    assert [outcome(i).result for i in ids] == [[str(i), "event-loop"] for i in ids]
    assert store().depths() == []


def test_what_coroutines_say_of_themselves_is_shown_under_their_own_messages(begin: Any) -> None:
    go = threading.Event()

    @task("test.tells_in_loop")
    async def tell(number: int) -> None:
        context = current_context()
        assert context is not None
        context.progress(number, 10, stage=f"of {number}")
        while not go.is_set():
            await asyncio.sleep(0.02)

    begin()
    ids = [add("test.tells_in_loop", number) for number in (1, 2)]

    def said() -> list[str]:
        found = store().get(ids)
        return [one.progress.stage for i in ids if (one := found[i]).progress is not None]

    until(lambda: said() == ["of 1", "of 2"], what="both")
    go.set()
    assert [outcome(one).progress for one in ids] == [None, None]


def test_what_is_no_coroutine_runs_in_a_thread_and_holds_up_no_other(begin: Any) -> None:
    go = threading.Event()

    @task("test.blocks")
    def blocks() -> str:
        assert go.wait(60)
        return threading.current_thread().name

    @task("test.passes")
    async def passes() -> str:
        await asyncio.sleep(0)
        return "passed"

    begin()
    blocked = add("test.blocks")
    assert outcome(add("test.passes")).result == "passed"
    go.set()
    assert outcome(blocked).result == "task-0"


def test_it_never_holds_more_than_it_may_run(begin: Any) -> None:
    go = threading.Event()

    @task("test.waits")
    async def waits() -> None:
        while not go.is_set():
            await asyncio.sleep(0.01)

    worker = begin(concurrency=3)
    ids = [add("test.waits") for _ in range(8)]
    until(lambda: worker.details()["coroutines"] == 3, what="three that run")
    last = add("test.waits")  # wakes the worker, which has no room
    time.sleep(0.3)
    (depth,) = store().depths()
    assert (depth.running, depth.waiting) == (3, 6)
    go.set()
    assert {outcome(i).attempts for i in [*ids, last]} == {1}


def test_what_a_coroutine_raises_or_asks_for_counts_as_anywhere(begin: Any) -> None:
    @task("test.again")
    async def again() -> int:
        message = current_message()
        assert message is not None
        if message.attempts == 1:
            raise RetryLater(delay_seconds=0)
        return message.attempts

    @task("test.fails", max_attempts=1)
    async def fails() -> None:
        raise SystemExit(3)

    begin()
    assert outcome(add("test.again")).result == 2
    failed = outcome(add("test.fails", max_attempts=1))
    assert failed.error is not None
    assert (failed.state, failed.error.type, failed.error.message) == (MessageState.FAILED, "SystemExit", "3")


def test_a_soft_limit_cancels_a_coroutine_which_may_tidy_up_and_return(begin: Any) -> None:
    @task("test.tidies", soft_time_limit_seconds=0.1)
    async def tidies() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "tidied"
        return "never"

    @task("test.lets_pass", soft_time_limit_seconds=0.1)
    async def lets_pass() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))

    begin()
    assert outcome(add("test.tidies")).result == "tidied"
    failed = outcome(add("test.lets_pass", max_attempts=1))
    assert failed.error is not None
    assert failed.error.type == "pg_queue.errors.SoftTimeLimitExceeded"
    assert "soft time limit of 0.1 s" in failed.error.message
    assert "in lets_pass" in failed.error.traceback, "where it stood"


def test_a_hard_limit_is_final_whatever_the_coroutine_makes_of_it(begin: Any) -> None:
    swallowed = 0

    @task("test.swallows", time_limit_seconds=0.1)
    async def swallows() -> str:
        nonlocal swallowed
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            swallowed += 1
        try:
            await asyncio.sleep(60)  # cancelled again
        except asyncio.CancelledError:
            swallowed += 1
        return "too late"

    begin()
    failed = outcome(add("test.swallows", max_attempts=1))
    assert swallowed == 2
    assert failed.error is not None
    assert (failed.state, failed.error.type) == (MessageState.FAILED, "worker.time_limit")
    assert failed.error.message == "it ran longer than its time limit of 0.1 s and was cancelled"


def test_a_function_with_a_limit_is_put_back_for_a_worker_that_can_enforce_it(begin: Any) -> None:
    @task("test.limited", time_limit_seconds=2)
    def limited() -> None:
        raise AssertionError

    begin()
    failed = outcome(add("test.limited", max_attempts=1))
    assert failed.error is not None
    assert failed.error.type == "worker.no_time_limit"
    assert "got: 2 s for a function that runs in a thread" in failed.error.message


def test_a_coroutine_whose_message_is_cancelled_is_stopped_and_settles_nothing(begin: Any, settings: Any) -> None:
    settings.PG_QUEUE = FAST
    begun, stopped = threading.Event(), threading.Event()

    @task("test.endless")
    async def endless() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    worker = begin()
    message_id = add("test.endless")
    assert begun.wait(30)
    assert store().cancel([message_id], reason="by ann") == {message_id}
    assert stopped.wait(30)
    until(lambda: worker.details()["held"] == 0, what="the claim to be written off")
    message = outcome(message_id)
    assert (message.state, message.attempts) == (MessageState.CANCELLED, 1)
    assert worker.details()["failed"] == 0


def test_the_drain_lets_coroutines_finish_and_cancels_those_that_do_not(begin: Any) -> None:
    begun = threading.Semaphore(0)

    @task("test.takes")
    async def takes(seconds: float) -> str:
        begun.release()
        await asyncio.sleep(seconds)
        return "done"

    worker = begin(drain_seconds=1.0)
    short, long = add("test.takes", 0.5), add("test.takes", 600)
    for _ in range(2):
        assert begun.acquire(timeout=30)
    assert worker.stop()
    assert outcome(short).result == "done"
    message = store().get([long])[long]
    assert message.error is not None
    assert (message.state, message.attempts, message.error.type) == (MessageState.WAITING, 1, "worker.stopped")


def test_queries_of_many_coroutines_share_a_few_sessions_which_are_looked_after(begin: Any) -> None:
    threads, sessions = set[str](), set[int]()

    def session() -> int:
        threads.add(threading.current_thread().name)
        connection.ensure_connection()
        return int(connection.connection.info.backend_pid)

    @task("test.queries")
    async def queries() -> int:
        sessions.add(await sync_to_async(session)())
        return await WorkerRow.objects.acount()

    begin(concurrency=100)
    ids = [add("test.queries") for _ in range(60)]
    assert {outcome(i).result for i in ids} == {1}
    assert len(threads) <= 8
    assert all(name.startswith("lane-") for name in threads)


def test_a_session_that_was_broken_serves_the_next_coroutine_while_another_one_keeps_to_it(
    begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MOST", 1)
    queried, go = threading.Event(), threading.Event()

    @task("test.keeps")
    async def keeps() -> int:
        await WorkerRow.objects.acount()
        queried.set()
        while not go.is_set():
            await asyncio.sleep(0.01)
        return await WorkerRow.objects.acount()

    @task("test.breaks", max_attempts=3, retry_backoff_seconds=0)
    async def breaks() -> int:
        message = current_message()
        assert message is not None
        if message.attempts == 1:
            await sync_to_async(lambda: connection.connection.close())()
        await WorkerRow.objects.acount()
        return message.attempts

    begin()
    kept = add("test.keeps")
    assert queried.wait(30)
    assert outcome(add("test.breaks", max_attempts=3)).result == 2
    go.set()
    assert outcome(kept).result == 1


def test_a_coroutine_that_does_not_await_is_named_and_the_worker_is_not_alive(
    begin: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_loop, "PING_SECONDS", 0.05)
    monkeypatch.setattr(event_loop, "BLOCKED_SECONDS", 0.2)
    go = threading.Event()

    @task("test.never_awaits")
    async def never_awaits() -> None:
        go.wait(60)

    with caplog.at_level(logging.WARNING, event_loop.__name__):
        worker = begin()
        message_id = add("test.never_awaits")
        until(lambda: "worker.event_loop_blocked" in caplog.text, what="the warning")
    pool = worker._worker._pool
    assert not pool.is_alive
    go.set()
    assert outcome(message_id).state is MessageState.SUCCEEDED
    until(lambda: pool.is_alive, what="the loop to turn again")
