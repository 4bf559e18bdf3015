"""Stock `celery worker` processes on PostgreSQL alone: killed, cut off from their server, watched, and told things."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from backend.standalone.ports import free_port
from backend.standalone.postgres import EmbeddedPostgres
from tests.pg_queue.celery.transport.stock import SOON, Stock, stock
from tests.pg_queue.worker.conftest import until
from tests.processes import ProcessDatabase, copied_database, migrate
from tests.scheduler.rows import Rows

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.postgresql("the transport is on PostgreSQL alone"),
]
WATCHED = "watched@test"


@pytest.fixture(scope="module")
def shared(process_template: str, tmp_path_factory: Any, django_db_blocker: Any) -> Iterator[Stock]:
    """A database of this module, with a worker that sends events."""
    with (
        copied_database(os.environ["DATABASE_URL"], process_template, "stock") as database,
        stock(database, tmp_path_factory.mktemp("stock"), django_db_blocker) as made,
    ):
        made.start_worker("-c", "2", "-E", name=WATCHED)
        yield made


@pytest.fixture
def alone(process_database: ProcessDatabase, tmp_path: Path, django_db_blocker: Any) -> Iterator[Stock]:
    """A database of this test, and no worker yet."""
    with stock(process_database, tmp_path, django_db_blocker) as made:
        yield made


class Restartable:
    """A PostgreSQL of its own, to be switched off."""

    def __init__(self, server: EmbeddedPostgres, made: Stock) -> None:
        self.server, self.stock = server, made

    def restart(self) -> None:
        """At once, as by a machine that is switched off and on."""
        self.server.stop("immediate")
        self.server.start()


@pytest.fixture(scope="module")
def restartable(tmp_path_factory: Any, django_db_blocker: Any) -> Iterator[Restartable]:
    """A server of this module."""
    server = EmbeddedPostgres.ephemeral()
    try:
        server.start()
        migrate(server.url)
        database = ProcessDatabase(url=server.url)
        with stock(database, tmp_path_factory.mktemp("restartable"), django_db_blocker) as made:
            yield Restartable(server, made)
    finally:
        server.discard()


# Killed


@pytest.mark.long
@pytest.mark.parametrize(
    ("count", "kills"), [(1000, 2), pytest.param(10_000, 12, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_every_task_is_executed_while_its_workers_are_killed(
    alone: Stock, count: int, kills: int, record_property: Any
) -> None:
    chance = random.Random(seed := random.randrange(10**6))
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    sent = {alone.send("note_late", number) for number in range(count)}
    cut_off = 0
    for _ in range(kills):
        worker, enough = alone.start_worker("-c", "2"), len(alone.executed()) + chance.randint(1, count // kills // 2)
        until(lambda enough=enough: len(alone.executed()) >= enough, SOON, f"{enough} are executed")
        worker.kill(group=True)
        cut_off += alone.count("message", "claim_token IS NOT NULL")
    assert cut_off
    assert len(alone.executed()) < count

    last = alone.start_worker("-c", "2")
    alone.wait_for(sent)
    assert alone.executed().keys() == sent
    assert alone.count("deadletter") == 0
    alone.app.control.shutdown()
    assert last.wait(SOON) == 0
    record_property(f"of {count} tasks executed twice under {kills} kills", alone.executed().total() - count)


# Cut off


def test_a_worker_lives_through_a_restart_of_the_server(restartable: Restartable) -> None:
    made = restartable.stock
    worker = made.start_worker("-c", "1")
    made.wait_for({made.send("note", "before")})
    restartable.restart()
    made.wait_for({made.send("note", "after")})
    assert worker.stop() == 0


def test_what_waits_for_its_eta_outlives_workers_and_server(restartable: Restartable) -> None:
    made, earliest = restartable.stock, {}
    first = made.start_worker("-c", "2")
    for number in range(20):
        countdown = 6 + number / 5
        at = time.time() + countdown
        earliest[made.send("note", countdown=countdown)] = at
    first.kill(group=True)
    restartable.restart()
    assert not made.executed().keys() & earliest.keys()

    made.start_worker("-c", "2")
    made.wait_for(set(earliest))
    ran = {note["id"]: note["at"] for note in made.notes() if note["id"] in earliest}
    assert all(ran[task_id] >= at for task_id, at in earliest.items())
    assert {made.executed()[task_id] for task_id in earliest} == {1}


# Scheduled


def test_a_run_that_a_stock_worker_has_executed_has_succeeded(shared: Stock) -> None:
    rows = Rows(shared.database)
    try:
        schedule_id = rows.add_interval(3600, task="proj.note", queue="stock")
        rows.session.execute("UPDATE scheduler_pgperiodicschedule SET next_run_at = now()")
        shared.manage("run_scheduler", env=shared.environment)
        until(lambda: [run["state"] for run in rows.runs(schedule_id)] == ["succeeded"], SOON, "the run has succeeded")
        (run,) = rows.runs(schedule_id)
    finally:
        rows.close()
    (note,) = [note for note in shared.notes() if note["id"] == str(run["id"])]
    assert (note["schedule_id"], note["args"], note["kwargs"]) == (str(schedule_id), ["a"], {"b": 1})
    assert shared.count("message") == 0


# Watched and told


class Listener:
    """Events as they come, to one consumer."""

    def __init__(self, connection: Any, receiver: Any) -> None:
        self._connection, self._receiver = connection, receiver
        self.events: list[dict[str, Any]] = []
        receiver.handlers["*"] = self.events.append

    def hear(self, is_told: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for an event of which this holds."""
        deadline = time.monotonic() + SOON
        while True:
            if found := [event for event in self.events if is_told(event)]:
                return found[0]
            assert time.monotonic() < deadline, self.events
            with suppress(TimeoutError):
                self._connection.drain_events(timeout=1)


@pytest.fixture
def listener(shared: Stock) -> Iterator[Listener]:
    """Of all events from now on."""
    with shared.app.connection_for_read() as connection:
        receiver = shared.app.events.Receiver(connection)
        with receiver.consumer_context() as (drained, _, _):
            yield Listener(drained, receiver)


def test_who_listens_hears_of_every_step_and_of_workers(shared: Stock, listener: Listener) -> None:
    task_id = shared.send("note", "watched")
    for step in ("task-sent", "task-received", "task-started", "task-succeeded"):
        heard = listener.hear(lambda event, step=step: (event["type"], event.get("uuid")) == (step, task_id))
        assert step == "task-sent" or heard["hostname"] == WATCHED
    beat = listener.hear(lambda event: event["type"] == "worker-heartbeat" and "processed" in event)
    assert beat["hostname"] == WATCHED
    assert beat["processed"] >= 1


def test_a_worker_answers_and_ends_a_task_that_runs(shared: Stock, listener: Listener) -> None:
    inspect = shared.inspect(WATCHED)
    assert inspect.ping() == {WATCHED: {"ok": "pong"}}
    assert {"proj.note", "proj.note_late", "proj.hold"} <= set(inspect.registered()[WATCHED])
    assert inspect.stats()[WATCHED]["pool"]["max-concurrency"] == 2
    task_id = shared.send("hold", 600)
    until(lambda: task_id in shared.executed(), SOON, "it runs")
    assert [task["id"] for task in inspect.active()[WATCHED]] == [task_id]

    shared.app.control.revoke(task_id, terminate=True, signal="SIGKILL")
    told = listener.hear(lambda event: (event["type"], event.get("uuid")) == ("task-revoked", task_id))
    assert (told["terminated"], told["signum"]) == (True, int(signal.SIGKILL))
    until(lambda: inspect.active()[WATCHED] == [], SOON, "it is gone")
    shared.wait_for({shared.send("note", "and the worker goes on")})
    assert shared.executed()[task_id] == 1


def test_flower_shows_the_worker_and_its_tasks(shared: Stock) -> None:
    pytest.importorskip("flower")
    port = free_port()
    flower = shared.celery(
        "flower", "--address=127.0.0.1", f"--port={port}", FLOWER_UNAUTHENTICATED_API="true", PYTHONWARNINGS="ignore"
    )
    flower.wait_for_line("Visit me at", SOON)

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=30) as answer:
            return json.load(answer)

    workers = until(lambda: ask("workers?refresh=1"), SOON, "the worker is shown")
    assert [queue["name"] for queue in workers[WATCHED]["active_queues"]] == ["stock"]

    def is_shown() -> bool:
        """One that was sent when Flower listened already."""
        task_id = shared.send("note", "shown")
        shared.wait_for({task_id})
        with suppress(AssertionError):
            return bool(until(lambda: ask("tasks").get(task_id, {}).get("state") == "SUCCESS", 3))
        return False

    until(is_shown, SOON, "a task is shown")


@pytest.mark.parametrize("pool", ["gevent", "threads"])
def test_other_pools_execute_tasks(alone: Stock, pool: str) -> None:
    if pool == "gevent":
        pytest.importorskip("gevent")
    worker = alone.start_worker("-P", pool, "-c", "20", name=f"{pool}@test")
    sent = {alone.send("note", number) for number in range(50)}
    alone.wait_for(sent)
    assert dict(alone.executed()) == dict.fromkeys(sent, 1)
    assert pool.rstrip("s") in alone.inspect(f"{pool}@test").stats()[f"{pool}@test"]["pool"]["implementation"]
    assert worker.stop() == 0


def test_a_broker_by_its_address_takes_no_part_in_a_tasks_transaction(alone: Stock) -> None:
    alone.start_worker("-P", "solo", PROJ_BROKER_URL=f"downbeat+{alone.database.url}")
    task_id = alone.send("again")
    until(lambda: alone.executed()[task_id] == 2, SOON, "it is executed again")
