"""Results kept outside of the queue: what a worker does before it settles, and when their store is away."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pg_queue.domain import Message, MessageState
from tests.contract.results.harness import Harness
from tests.gate import Gate, gate_to
from tests.pg_queue.worker.conftest import ProcessQueue, until, worker_environment
from tests.places import ALIAS, PLACES, Place, connected, parameters
from tests.processes import Manage, RunningProcess

pytestmark = pytest.mark.processes

ELSEWHERE = parameters("mariadb", "sqlite", "redis")


class Setup:
    """A queue in PostgreSQL, and a place for results."""

    def __init__(self, queue: ProcessQueue, place: Place, manage: Manage) -> None:
        self.queue, self.place, self._manage = queue, place, manage
        self.harness = Harness(place)

    def worker(self, env: dict[str, str] | None = None, seen: Place | None = None, **results: Any) -> RunningProcess:
        """Start a worker that keeps results at the place, or at the address where it is `seen`."""
        place = seen or self.place
        environment = {
            **worker_environment(LEASE_SECONDS=2, RENEW_SECONDS=0.3, RESULTS={**place.results, **results}),
            "TEST_DATABASES": json.dumps(place.databases),
            **(env or {}),
        }
        process = self._manage("run_worker", "--concurrency", "2", env=environment)
        process.wait_for_line("started command=run_worker")
        return process

    def kept(self, message_id: uuid.UUID) -> Any:
        """The value at the place."""
        return self.harness.store.get([message_id])[message_id].value

    def value_in_queue(self, message_id: uuid.UUID) -> Any:
        """The value in the queue's own row."""
        return self.queue.sql("SELECT value FROM pg_queue_result WHERE message_id = %s", message_id)[0][0]


@contextmanager
def setup_at(name: str, folder: Path, queue: ProcessQueue, manage: Manage) -> Iterator[Setup]:
    with PLACES[name](folder) as place, connected(place):
        yield Setup(queue, place, manage)


@pytest.fixture(params=ELSEWHERE)
def setup(request: Any, queue: ProcessQueue, manage: Manage, tmp_path: Path) -> Iterator[Setup]:
    """Each place in turn."""
    with setup_at(request.param, tmp_path, queue, manage) as made:
        yield made


@pytest.fixture(params=parameters("mariadb", "redis"))
def gated(request: Any, queue: ProcessQueue, manage: Manage, tmp_path: Path) -> Iterator[tuple[Setup, Place, Gate]]:
    """A place with a server, which workers see through a gate."""
    with setup_at(request.param, tmp_path, queue, manage) as made, gate_to(made.place.address) as gate:
        yield made, made.place.at("127.0.0.1", gate.port), gate


def executions(folder: Path) -> list[str]:
    """Which attempts of `test.notes` have been made."""
    file = folder / "executions"
    return file.read_text().split() if file.exists() else []


def test_a_worker_killed_between_put_and_settle_leaves_one_result_after_the_next_execution(
    setup: Setup, tmp_path: Path
) -> None:
    message_id = setup.queue.add("test.notes", str(tmp_path))
    env = {
        "TEST_RESULTS_BACKEND": setup.place.results["BACKEND"],
        "TEST_RESULTS_KILLED": str(tmp_path / "killed"),
    }
    killing = "tests.pg_queue.worker.killing.KillsAfterPut"
    assert setup.worker(env, BACKEND=killing).wait() == -9
    assert setup.kept(message_id) == {"attempt": 1, "text": "ä"}
    assert setup.queue.get(message_id).state is MessageState.RUNNING
    setup.queue.reaper()
    setup.worker(env, BACKEND=killing)
    message = setup.queue.outcome(message_id)
    assert (message.state, message.attempts, message.result) == (MessageState.SUCCEEDED, 2, None)
    assert executions(tmp_path) == ["1", "2"]
    assert setup.kept(message_id) == {"attempt": 2, "text": "ä"}
    assert setup.harness.store.count() == setup.harness.rows() == 1


def test_results_and_failures_go_to_the_store_and_the_queue_keeps_the_outcome_alone(setup: Setup) -> None:
    sums = [setup.queue.add("test.add", number, 1) for number in range(300)]
    fails, forgets = setup.queue.add("test.raise", "broken"), setup.queue.add("test.forgets")
    celery, large = setup.queue.add("test.celery_forgets"), setup.queue.add("test.add", "x" * 60, "x" * 60)
    traceless = setup.queue.add("test.leaves_nothing")
    needed = setup.queue.add("test.leaves_nothing", report_to="runs")
    worker = setup.worker(MAX_BYTES=100)
    ended = {one: setup.queue.outcome(one) for one in (*sums, fails, forgets, celery, large)}
    assert worker.stop() == 0
    found = setup.harness.store.get(ended)
    assert [found[one].value for one in sums] == list(range(1, 301))
    assert {ended[one].result for one in sums} == {None}
    assert {ended[one].state for one in (*sums, forgets, celery)} == {MessageState.SUCCEEDED}
    assert (found[fails].state, found[fails].attempts) == (MessageState.FAILED, 3)
    assert found[fails].error == ended[fails].error
    assert found[fails].error.message == "broken"  # type: ignore[union-attr]
    assert set(found) == {*sums, fails, large}
    assert setup.queue.outcome(needed).state is MessageState.SUCCEEDED
    assert setup.queue.store.get([traceless]) == {}
    assert (ended[large].attempts, failure_type(ended[large])) == (1, "task.result_too_large")
    said = ended[large].error.message  # type: ignore[union-attr]
    assert "result: expected a result of at most 100 bytes" in said
    assert said.endswith("got: 122")


def failure_type(message: Message) -> str:
    """The type of its error."""
    return message.error.type if message.error else ""


def test_while_the_store_is_away_leases_are_renewed_and_nothing_is_claimed_or_lost(
    gated: tuple[Setup, Place, Gate], tmp_path: Path
) -> None:
    setup, seen, gate = gated
    worker = setup.worker(seen=seen)
    setup.queue.reaper()
    setup.queue.outcome(setup.queue.add("test.add", 1, 1))
    gate.shut()
    message_id = setup.queue.add("test.notes", str(tmp_path))
    worker.wait_for_line("worker.results_failed")
    later = setup.queue.add("test.notes", str(tmp_path))
    (claimed_at,) = setup.queue.sql("SELECT started_at FROM pg_queue_message WHERE id = %s", message_id)[0]
    renewed = "SELECT lease_until > started_at + interval '6 seconds' FROM pg_queue_message WHERE id = %s"
    until(lambda: setup.queue.sql(renewed, message_id) == [(True,)], what="leases to be renewed")
    assert setup.queue.get(message_id).started_at == claimed_at
    assert setup.queue.get(later).attempts == 0
    gate.open()
    assert [setup.queue.outcome(one).attempts for one in (message_id, later)] == [1, 1]
    assert executions(tmp_path) == ["1", "1"]
    assert setup.kept(message_id) == setup.kept(later) == {"attempt": 1, "text": "ä"}


@pytest.mark.parametrize("how", ["shut", "hold"])
def test_a_store_that_stays_away_or_hangs_is_given_up_and_the_message_is_tried_again(
    gated: tuple[Setup, Place, Gate], tmp_path: Path, how: str
) -> None:
    setup, seen, gate = gated
    worker = setup.worker(seen=seen, GIVE_UP_SECONDS=1)
    setup.queue.outcome(setup.queue.add("test.add", 1, 1))
    getattr(gate, how)()
    last = setup.queue.add("test.add", 1, 2, max_attempts=1)
    message_id = setup.queue.add("test.notes", str(tmp_path))
    assert failure_type(setup.queue.outcome(last)) == "results.unavailable"
    until(lambda: failure_type(setup.queue.get(message_id)) == "results.unavailable", what="the message to be given up")
    assert setup.queue.get(message_id).state is MessageState.WAITING
    assert executions(tmp_path) == ["1"]
    {"shut": gate.open, "hold": gate.let_go}[how]()
    message = setup.queue.outcome(message_id)
    assert (message.state, message.attempts) == (MessageState.SUCCEEDED, 2)
    assert setup.kept(message_id) == {"attempt": 2, "text": "ä"}
    assert worker.stop() == 0


def test_a_worker_that_is_told_to_stop_while_the_store_is_away_gives_its_messages_back(
    gated: tuple[Setup, Place, Gate], tmp_path: Path
) -> None:
    setup, seen, gate = gated
    worker = setup.worker(seen=seen)
    setup.queue.outcome(setup.queue.add("test.add", 1, 1))
    gate.hold()
    message_id = setup.queue.add("test.notes", str(tmp_path))
    until(lambda: executions(tmp_path), what="the task to have run")
    worker.send(15)
    worker.wait_for_line("worker.draining")
    worker.send(15)
    assert worker.wait(60) == 0
    message = setup.queue.get(message_id)
    assert (message.state, failure_type(message)) == (MessageState.WAITING, "results.unavailable")


def test_a_worker_is_not_started_without_the_table_and_says_which_command_makes_it(
    queue: ProcessQueue, manage: Manage, tmp_path: Path
) -> None:
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "empty.sqlite3")}
    environment = {
        **worker_environment(RESULTS={"DATABASE": ALIAS}),
        "TEST_DATABASES": json.dumps({ALIAS: entry}),
    }
    worker = manage("run_worker", env=environment)
    assert worker.wait() == 4, worker.output
    assert f"run `python manage.py migrate pg_queue_results --database {ALIAS}` first" in worker.stderr


@pytest.mark.services("mariadb")
def test_a_worker_starts_while_the_store_is_away_and_goes_on_when_it_comes(
    queue: ProcessQueue, manage: Manage, tmp_path: Path
) -> None:
    with setup_at("mariadb", tmp_path, queue, manage) as setup, gate_to(setup.place.address) as gate:
        gate.shut()
        worker = setup.worker(seen=setup.place.at("127.0.0.1", gate.port))
        message_id = queue.add("test.add", 1, 1)
        worker.wait_for_line("worker.results_failed")
        gate.open()
        assert queue.outcome(message_id).attempts == 1
        assert setup.kept(message_id) == 2
