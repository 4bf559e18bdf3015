"""The worker of threads: alone as a command, and inside a process that has other things to do."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from pg_queue.api import TaskContext, current_context, task
from pg_queue.domain import Claim, MessageState, NewMessage, Settlement, Success
from pg_queue.errors import Configuration
from pg_queue.settings import queue_settings
from pg_queue.storage import store
from pg_queue.tasks import registry
from pg_queue.worker import embedded
from pg_queue.worker.books import Books
from pg_queue.worker.embedded import EmbeddedWorker
from pg_queue.worker.options import WorkerOptions
from pg_queue.worker.pools import hands
from pg_queue.worker.pools.hands import Hands
from pg_queue.worker.pools.thread import check_threads_will_do
from tests.pg_queue.worker.conftest import ProcessQueue, Start, add, outcome, until, worker_environment

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.usefixtures("own_tasks"),
]

DEAF = "tests.pg_queue.worker.deaf.DeafStore"


def test_tasks_run_at_once_in_threads_of_this_process(start: Start) -> None:
    meeting = threading.Barrier(3)

    @task("test.meet")
    def meet() -> str:
        meeting.wait(30)
        return threading.current_thread().name

    start()
    ids = [add("test.meet"), add("test.meet")]
    meeting.wait(30)
    assert {outcome(i).result for i in ids} == {"task-0", "task-1"}
    assert store().depths() == []


def test_what_a_task_raises_is_retried_and_then_buried(start: Start) -> None:
    @task("test.fails", max_attempts=2, retry_backoff_seconds=0)
    def fails() -> None:
        raise ValueError("no")

    start()
    message = outcome(add("test.fails", max_attempts=2))
    assert (message.state, message.attempts) == (MessageState.FAILED, 2)
    assert message.error is not None
    assert (message.error.type, message.error.message) == ("ValueError", "no")


def test_stopping_waits_for_what_runs_and_claims_nothing_more(start: Start) -> None:
    begun, go = threading.Event(), threading.Event()

    @task("test.wait")
    def wait() -> str:
        begun.set()
        assert go.wait(30)
        return "done"

    worker = start(concurrency=1)
    running = add("test.wait")
    assert begun.wait(30)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    until(lambda: worker.details()["draining"], what="the drain")
    left = add("test.wait")
    go.set()
    stopping.join(30)
    assert not stopping.is_alive()
    assert outcome(running).result == "done"
    assert store().get([left])[left].attempts == 0


def test_stopping_is_bounded_and_what_goes_on_is_left_to_its_lease(start: Start) -> None:
    begun, go = threading.Event(), threading.Event()

    @task("test.stuck")
    def stuck() -> None:
        begun.set()
        go.wait(60)

    worker = start(concurrency=1, drain_seconds=0.2)
    message_id = add("test.stuck")
    assert begun.wait(30)
    assert worker.stop() is False
    assert store().get([message_id])[message_id].state is MessageState.RUNNING
    assert store().workers.list()[0].stopped_at is not None
    go.set()


def test_a_second_stop_while_it_drains_returns_too(start: Start) -> None:
    worker = start()
    assert [worker.stop(), worker.stop()] == [True, True]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queues": ()}, r"queues: expected a tuple with the name of a queue, got: \(\)"),
        ({"queues": "default"}, "queues: expected a tuple with the name of a queue, got: 'default'"),
        ({"queues": ("a b",)}, "queues: expected names of 1 to 128 letters.*got: 'a b'"),
        ({"concurrency": 0}, "concurrency: expected a number from 1 to 1000, got: 0"),
        ({"drain_seconds": -1.0}, "drain_seconds: expected a number of seconds, 0 or more, got: -1.0"),
    ],
)
def test_options_that_no_worker_can_have_are_refused_before_the_start(options: Any, said: str) -> None:
    chosen = {"queues": ("default",), "concurrency": 1, "drain_seconds": 1.0, **options}
    worker = EmbeddedWorker(WorkerOptions(**chosen))
    with pytest.raises(Configuration, match=said):
        worker.start()
    assert worker.stop(), "what never began has ended"
    assert worker.details() == {}


def test_a_worker_that_fails_is_replaced_also_where_that_fails_at_first(
    monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    made: list[Any] = []
    real = embedded.Worker

    class Failing(real):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any) -> None:
            made.append(self)
            if len(made) == 2:
                raise OSError("too many open files")
            super().__init__(*arguments)

        def run(self) -> None:
            if self is made[0]:
                raise RuntimeError("by accident")
            super().run()

    monkeypatch.setattr(embedded, "RESTART_SECONDS", 0.01)
    monkeypatch.setattr(embedded, "Worker", Failing)
    start()
    assert outcome(add("noop")).state is MessageState.SUCCEEDED
    assert len(made) == 3


@override_settings(PG_QUEUE={"RENEW_SECONDS": 0.2})
def test_a_task_whose_message_was_cancelled_learns_so_when_it_asks(start: Start) -> None:
    begun, ended = threading.Event(), threading.Event()

    @task("test.asks")
    def asks(context: TaskContext) -> None:
        begun.set()
        deadline = time.monotonic() + 30
        while not context.is_cancelled():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ended.set()

    worker = start(concurrency=1)
    first = asks.enqueue()
    assert begun.wait(30)
    assert asks.cancel(first) == {first}
    assert ended.wait(30)
    begun.clear()
    ended.clear()
    second = asks.enqueue()  # in the same thread, whose execution before was cancelled
    assert begun.wait(30)
    assert not ended.wait(0.5)
    assert store().get([second])[second].state is MessageState.RUNNING
    asks.cancel(second)
    assert ended.wait(30)
    until(lambda: worker.details()["held"] == 0, what="the end")
    assert worker.details()["finished"] == 0


def quick_then_long(start: Start, go: threading.Event) -> tuple[EmbeddedWorker, list[uuid.UUID], list[uuid.UUID]]:
    """A worker of one thread that has claimed quick ones behind a long one; their ids, the long one's first; and those
    of the quick ones as they run.
    """
    begun, ran = threading.Event(), list[uuid.UUID]()

    @task("test.quick")
    def quick(context: TaskContext) -> None:
        ran.append(context.id)

    @task("test.long")
    def long() -> None:
        begun.set()
        assert go.wait(60)

    worker = start(concurrency=1)
    for one in [add("test.quick") for _ in range(60)]:  # so that it claims ahead
        outcome(one)
    ids = store().enqueue([NewMessage(task="test.long"), *(NewMessage(task="test.quick") for _ in range(5))])
    assert begun.wait(30)
    return worker, list(ids), ran


def test_what_was_claimed_ahead_of_a_long_task_is_given_back(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[Claim] = []
    give_back = Books.give_back
    monkeypatch.setattr(Books, "give_back", lambda books, claims: (given_back.extend(claims), give_back(books, claims)))
    go = threading.Event()
    _, ids, _ = quick_then_long(start, go)
    until(lambda: {m.state for m in store().get(ids[1:]).values()} == {MessageState.WAITING}, what="the recall")
    assert {claim.message.id for claim in given_back} == set(ids[1:])
    go.set()
    assert [outcome(one).attempts for one in ids] == [1] * 6


@override_settings(PG_QUEUE={"RENEW_SECONDS": 0.05})
def test_what_was_lost_while_it_waited_for_a_thread_does_not_begin(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands, "RECALL_SECONDS", 60)
    heard, lose = set[uuid.UUID](), Hands.lose
    monkeypatch.setattr(Hands, "lose", lambda found, tokens: (lose(found, tokens), heard.update(tokens)))
    go = threading.Event()
    worker, ids, ran = quick_then_long(start, go)
    assert worker.details()["held"] == 6
    assert store().cancel(ids[1:3]) == set(ids[1:3])
    until(lambda: len(heard) == 2, what="the news")
    go.set()
    until(lambda: worker.details()["held"] == 0, what="the end of all")
    assert ran[60:] == ids[3:]


def test_a_time_limit_is_refused_before_the_start() -> None:
    @task("test.limited", time_limit_seconds=2)
    def limited() -> None: ...

    with pytest.raises(Configuration, match=r"task 'test.limited': expected no time limit.*got: 2 s"):
        EmbeddedWorker(WorkerOptions(queues=("default",), concurrency=1, drain_seconds=1)).start()


def test_the_settings_time_limit_counts_for_every_task(settings: Any) -> None:
    settings.PG_QUEUE = {"TASK_TIME_LIMIT_SECONDS": 30}
    with pytest.raises(Configuration, match="got: 30 s"):
        check_threads_will_do(queue_settings(), registry.tasks())


def test_what_a_task_in_a_thread_says_of_itself_is_shown_under_its_own_message(start: Start) -> None:
    go = threading.Event()

    @task("test.tells_in_thread")
    def tell(number: int) -> None:
        context = current_context()
        assert context is not None
        context.progress(number, 10, stage=f"of {number}")
        go.wait(30)

    start()
    ids = [add("test.tells_in_thread", number) for number in (1, 2)]

    def said() -> list[str]:
        found = store().get(ids)
        return [one.progress.stage for i in ids if (one := found[i]).progress is not None]

    until(lambda: said() == ["of 1", "of 2"], what="both")
    go.set()
    assert [outcome(one).progress for one in ids] == [None, None]


@pytest.mark.processes
def test_the_command_runs_a_worker_of_threads_and_drains_on_sigterm(queue: ProcessQueue) -> None:
    environment = {**worker_environment(), "DJANGO_SETTINGS_MODULE": "backend.settings"}
    worker = queue._manage("run_worker", "--pool", "thread", "--concurrency", "3", env=environment)
    worker.wait_for_line("started command=run_worker .*pool=thread")
    ids = [queue.add("echo", number) for number in range(20)]
    assert [queue.outcome(i).result["args"] for i in ids] == [[number] for number in range(20)]
    assert worker.stop() == 0, worker.output
    assert queue.sql("SELECT running, stopped_at IS NOT NULL, finished FROM pg_queue_worker") == [(0, True, 20)]


@pytest.mark.processes
def test_the_command_names_a_task_that_threads_cannot_limit(queue: ProcessQueue) -> None:
    worker = queue._manage("run_worker", "--pool", "thread", env=worker_environment())
    assert worker.wait() == 2
    assert "expected no time limit, which a worker of threads cannot enforce" in worker.stderr


@override_settings(PG_QUEUE={"POLL_SECONDS": 0.1, "STORES": {"default": {"BACKEND": DEAF}}})
def test_a_worker_whose_store_wakes_nobody_polls(start: Start) -> None:
    @task("test.answers")
    def answers() -> int:
        return 42

    start()
    for _ in range(2):  # the second one comes when the worker has found nothing more
        assert outcome(add("test.answers")).result == 42


@override_settings(PG_QUEUE={"POLL_SECONDS": 0.5, "FAIRNESS": {"MAX_RUNNING": 1}})
def test_a_worker_with_nothing_but_what_may_not_run_asks_ever_less_often(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task("test.answers")
    def answers() -> int:
        return 42

    asked_at: list[float] = []
    claim = Books.claim

    def noted(books: Books, limit: int) -> list[Claim] | None:
        asked_at.append(time.monotonic())
        return claim(books, limit)

    first, second = (add("test.answers", organization_id="acme") for _ in range(2))
    (held,) = store().claim(queues=["default"], limit=1, lease=timedelta(seconds=600), worker="another")
    monkeypatch.setattr(Books, "claim", noted)
    start()

    def pauses() -> list[float]:
        return [later - earlier for earlier, later in itertools.pairwise(list(asked_at))]

    until(lambda: len(pauses()) >= 8 and min(pauses()[-3:]) >= 0.4, what="long pauses between claims")
    store().settle([Settlement(message_id=first, token=held.token, outcome=Success())])
    assert outcome(second).result == 42
