"""Workers of a store in Redis, as processes: without a database of their own, and killed at random."""

from __future__ import annotations

import json
import random
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pg_queue.domain import MessageState, NewMessage
from pg_queue.settings import QueueSettings, StoreSettings
from pg_queue.storage.redis import RedisStore
from tests.pg_queue.worker.conftest import until, worker_environment
from tests.places import own_redis
from tests.processes import Manage, RunningProcess, clean_up

pytestmark = [pytest.mark.services("redis"), pytest.mark.processes]

NO_DATABASE = "postgres://nobody:nothing@127.0.0.1:1/nowhere"


class RedisQueue:
    """A queue on a server of the test's own, and its processes."""

    def __init__(self, url: str) -> None:
        self.stores: dict[str, dict[str, Any]] = {"default": {}, "fast": {"BACKEND": "redis", "URL": url}}
        self.store = RedisStore(QueueSettings(), StoreSettings(alias="fast", backend="redis", url=url))
        self.manage = Manage(NO_DATABASE)

    def start(self, *arguments: str, **settings: Any) -> RunningProcess:
        """Start a command with the project's settings, which know this store as `fast`."""
        return self.manage(*arguments, env=worker_environment(STORES=self.stores, **settings))

    def worker(self, *arguments: str, store: str = "fast", **settings: Any) -> RunningProcess:
        """Start a worker of this store, and wait until it is there."""
        process = self.start("run_worker", "--store", store, *arguments, **settings)
        process.wait_for_line("started")
        return process

    def add_holding(self, folder: Path, count: int) -> dict[uuid.UUID, Path]:
        """Enqueue messages that take some milliseconds and note each attempt in a folder of their own; by id."""
        folders = [folder / uuid.uuid4().hex for _ in range(count)]
        for one in folders:
            one.mkdir()
        messages = [
            NewMessage(task="test.hold", args=[str(one), 0.05], max_attempts=50, report_to="books") for one in folders
        ]
        return dict(zip(self.store.enqueue(messages), folders, strict=True))

    def is_settled(self) -> bool:
        """Nothing waits or runs any more."""
        return all(depth.waiting + depth.delayed + depth.running == 0 for depth in self.store.depths())


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[RedisQueue]:
    """A queue for one test."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with own_redis(folder) as url:
        found = RedisQueue(url)
        try:
            yield found
        finally:
            clean_up(found.manage.processes)


def test_a_worker_needs_its_store_and_no_database(queue: RedisQueue) -> None:
    ids = queue.store.enqueue([NewMessage(task="test.add", args=[1, number]) for number in range(20)])
    worker = queue.worker("--concurrency", "2", "--health-port", "0", "--json")
    started = json.loads(worker.stdout.splitlines()[0])
    assert started["store"] == "fast"
    assert started["database"] == queue.store.place
    until(queue.is_settled)
    assert [queue.store.get([i])[i].result for i in ids] == [1 + number for number in range(20)]
    with urllib.request.urlopen(f"http://127.0.0.1:{started['health_port']}/readyz", timeout=60) as answer:
        assert json.load(answer)["status"] == "ready"
    (view,) = queue.store.workers.list()
    assert (view.process_id, view.stopped_at) == (worker.pid, None)
    assert worker.stop() == 0
    (view,) = queue.store.workers.list()
    assert view.stopped_at is not None
    assert view.finished == 20


def test_a_worker_of_a_namespace_leaves_the_others_alone(queue: RedisQueue) -> None:
    (own,) = queue.store.within("tenant").enqueue([NewMessage(task="test.add", args=[1, 2])])
    (other,) = queue.store.enqueue([NewMessage(task="test.add", args=[1, 2])])
    worker = queue.start("run_worker", "--store", "fast", "--namespace", "tenant", "--once")
    assert worker.wait() == 0, worker.output
    assert queue.store.within("tenant").get([own])[own].result == 3
    assert queue.store.get([other])[other].state is MessageState.WAITING


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--store", "nowhere"], 2, "expected an alias among default, fast, got: 'nowhere'"),
        (["--store", "fast", "--namespace", "a b"], 2, "NAMESPACE"),
    ],
)
def test_a_wrong_choice_is_refused_by_name(queue: RedisQueue, arguments: list[str], code: int, said: str) -> None:
    process = queue.start("run_worker", "--once", *arguments)
    assert process.wait() == code, process.output
    assert said in process.stderr


def test_a_server_that_is_not_there_ends_the_start_with_the_code_for_it(queue: RedisQueue) -> None:
    queue.stores["fast"]["URL"] = "redis://127.0.0.1:1/0"
    process = queue.start("run_worker", "--store", "fast", "--once")
    assert process.wait() == 3, process.output
    assert "Redis at 127.0.0.1:1/0" in process.stderr


def test_an_idle_worker_is_woken_and_does_not_poll(queue: RedisQueue) -> None:
    queue.worker("--concurrency", "1", POLL_SECONDS=600)
    (first,) = queue.store.enqueue([NewMessage(task="test.add", args=[1, 1])])
    until(queue.is_settled)
    (second,) = queue.store.enqueue([NewMessage(task="test.add", args=[1, 2])])
    until(queue.is_settled, what="the second, for which nobody woke the worker")
    assert [queue.store.get([i])[i].result for i in (first, second)] == [2, 3]


def test_a_worker_outlives_its_server_and_settles_when_it_is_back(tmp_path: Path, begun: Any) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    with own_redis(folder) as url:
        queue = RedisQueue(url)
        (message_id,) = queue.store.enqueue([NewMessage(task="test.hold", args=[str(tmp_path), 3])])
        worker = queue.worker("--concurrency", "1", LEASE_SECONDS=60)
        begun()
    try:
        worker.wait_for_line("worker.database_failed|worker.chore_failed|worker.listen_lost")
        with own_redis(folder, int(url.rsplit(":", 1)[1].split("/")[0])):
            until(queue.is_settled)
            message = queue.store.get([message_id])[message_id]
            assert (message.state, message.attempts) == (MessageState.SUCCEEDED, 1)
            assert worker.stop() == 0, worker.output
    finally:
        clean_up(queue.manage.processes)


@pytest.mark.long
def test_under_random_kills_each_message_is_settled_once_in_the_books(
    queue: RedisQueue, tmp_path: Path, manage: Manage
) -> None:
    """Workers die by SIGKILL with what they hold, and the others get it. Executions may repeat, ends not."""
    dice, folders = random.Random(7), {}
    workers = [queue.worker("--concurrency", "2") for _ in range(2)]
    reaper = manage("run_reaper", env=worker_environment(STORES=queue.stores))
    for _ in range(4):
        folders |= queue.add_holding(tmp_path, 30)
        until(lambda: sum(depth.running for depth in queue.store.depths()), what="a claim")
        victim = dice.randrange(len(workers))
        workers[victim].kill()
        workers[victim] = queue.worker("--concurrency", "2")
    until(queue.is_settled)
    outcomes = [message for _ in range(20) for message in queue.store.take_outcomes("books", limit=10)]
    assert Counter(message.id for message in outcomes) == Counter(folders.keys())
    assert {message.state for message in outcomes} == {MessageState.SUCCEEDED}
    for message in outcomes:
        begun = {file.name for file in folders[message.id].iterdir()}
        assert f"begun-{message.attempts}" in begun, "the attempt that is in the books is one that was executed"
    assert max(message.attempts for message in outcomes) > 1, "no kill has hit"
    assert queue.store.depths() == []
    assert "duty=expire_claims:fast" in reaper.stdout
