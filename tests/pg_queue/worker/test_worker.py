"""A worker among real processes: killed, drained, cut off, robbed of a lease, woken."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from pg_queue.domain import BarrierState, MessageState, NewMessage, Progress
from tests.pg_queue.worker.conftest import ProcessQueue, is_gone, process_queue, until, worker_environment
from tests.processes import Manage, RunningProcess, copied_database

pytestmark = pytest.mark.processes

Begun = Callable[[int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A queue with a worker of two children that outlives the test: for tests that leave it as they found it."""

    queue: ProcessQueue
    worker: RunningProcess


@pytest.fixture(scope="module")
def served(process_template: str, django_db_blocker: Any) -> Iterator[Served]:
    """The one of this module."""
    with copied_database(os.environ["DATABASE_URL"], process_template, "served") as database:
        manage = Manage(database.url)
        try:
            with process_queue(database, manage, django_db_blocker) as queue:
                yield Served(queue=queue, worker=queue.worker("--concurrency", "2", LEASE_SECONDS=5))
        finally:
            manage.clean_up()


def test_a_worker_killed_in_a_task_loses_nothing(queue: ProcessQueue, tmp_path: Path, begun: Begun) -> None:
    message_id = queue.add("test.hold", str(tmp_path))
    first = queue.worker("--concurrency", "1")
    child = begun(1)
    first.kill()
    until(lambda: is_gone(child), what="the orphaned child to end")
    queue.reaper()
    queue.worker("--concurrency", "1", LEASE_SECONDS=60, RENEW_SECONDS=10)  # not lost where the machine stalls
    begun(2)
    (tmp_path / "go").touch()
    message = queue.outcome(message_id)
    assert (message.state, message.attempts, message.result) == (MessageState.SUCCEEDED, 2, "attempt 2")
    assert queue.sql("SELECT count(*) FROM pg_queue_result") == [(1,)]
    assert queue.store.depths() == []


def test_sigterm_lets_running_tasks_finish_and_gives_the_others_back(
    queue: ProcessQueue, tmp_path: Path, begun: Begun
) -> None:
    quick = [queue.add("noop") for _ in range(50)]
    running = queue.add("test.hold", str(tmp_path))
    worker = queue.worker("--concurrency", "1")
    begun(1)
    assert {queue.outcome(message_id).state for message_id in quick} == {MessageState.SUCCEEDED}
    later = [queue.add("noop") for _ in range(5)]
    worker.send(15, group=True)  # as a supervisor may: the whole group
    worker.wait_for_line("worker.draining")
    # What the child has before it may still be run if the running task ends sooner than the recall arrives.
    until(lambda: {m.state for m in queue.store.get(later).values()} == {MessageState.WAITING}, what="the recall")
    (tmp_path / "go").touch()
    assert worker.wait() == 0, worker.output
    assert queue.get(running).result == "attempt 1"
    assert {(m.state, m.attempts) for m in queue.store.get(later).values()} == {(MessageState.WAITING, 0)}
    assert queue.sql("SELECT running, stopped_at IS NOT NULL, finished FROM pg_queue_worker") == [(0, True, 51)]


def test_what_was_assigned_ahead_of_a_long_task_is_called_back(served: Served, tmp_path: Path, begun: Begun) -> None:
    """Quick tasks make the worker assign ahead; the long one must not keep those behind it."""
    queue = served.queue
    for _ in range(60):
        queue.add("noop")
    long = queue.add("test.hold", str(tmp_path))
    behind = [queue.add("noop") for _ in range(60)]
    begun(1)
    assert {queue.outcome(message_id).attempts for message_id in behind} == {1}
    assert queue.get(long).state is MessageState.RUNNING
    (tmp_path / "go").touch()
    assert queue.outcome(long).attempts == 1


def test_a_task_that_outlasts_the_drain_is_killed_and_goes_back(
    queue: ProcessQueue, tmp_path: Path, begun: Begun
) -> None:
    message_id = queue.add("test.hold", str(tmp_path))
    worker = queue.worker("--concurrency", "1", "--drain-seconds", "0.2")
    child = begun(1)
    assert worker.stop() == 0, worker.output
    message = queue.get(message_id)
    assert (message.state, message.attempts) == (MessageState.WAITING, 1)
    assert message.error is not None
    assert message.error.type == "worker.stopped"
    assert is_gone(child)


def test_a_second_signal_stops_at_once(queue: ProcessQueue, tmp_path: Path, begun: Begun) -> None:
    message_id = queue.add("test.hold", str(tmp_path))
    worker = queue.worker("--concurrency", "1", "--drain-seconds", "60")
    begun(1)
    worker.send(15)
    worker.wait_for_line("worker.draining")
    assert worker.stop() == 0, worker.output
    assert queue.get(message_id).state is MessageState.WAITING


def test_a_long_task_keeps_its_lease(served: Served, tmp_path: Path, begun: Begun) -> None:
    queue = served.queue
    message_id = queue.add("test.hold", str(tmp_path))
    begun(1)
    ((claimed_until,),) = queue.sql("SELECT lease_until FROM pg_queue_message WHERE id = %s", message_id)
    is_renewed = (
        "SELECT 1 FROM pg_queue_message WHERE id = %s AND clock_timestamp() > %s"
        " AND lease_until > clock_timestamp() + interval '4 s'"
    )
    until(lambda: queue.sql(is_renewed, message_id, claimed_until), what="a lease beyond the first one's end")
    assert queue.store.expire_claims(limit=9) == 0
    (tmp_path / "go").touch()
    assert queue.outcome(message_id).attempts == 1


COUNT_WORDS = (
    "CREATE TABLE said (at timestamptz DEFAULT clock_timestamp())",
    "CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO said DEFAULT VALUES; "
    "RETURN NULL; END $$",
    "CREATE TRIGGER said AFTER UPDATE OF progress ON pg_queue_message FOR EACH ROW "
    "WHEN (NEW.progress IS NOT NULL) EXECUTE FUNCTION say()",
)


def test_the_last_word_of_a_task_is_shown_while_it_runs_and_costs_few_statements(
    served: Served, tmp_path: Path
) -> None:
    queue = served.queue
    for statement in COUNT_WORDS:
        queue.sql(statement)
    message_id = queue.add("test.tells", str(tmp_path))

    def said() -> Progress | None:
        found = queue.get(message_id).progress
        return found if found and found.stage == "step 999" else None

    progress: Progress = until(said, what="the last word")
    assert (progress.done, progress.total) == (999, 1000)
    ((updates,),) = queue.sql("SELECT count(*) FROM said")
    assert 0 < updates < 100
    (tmp_path / "go").touch()
    assert queue.outcome(message_id).progress is None


def test_an_execution_whose_lease_was_lost_is_stopped_and_settles_nothing(
    served: Served, tmp_path: Path, begun: Begun
) -> None:
    queue, worker = served.queue, served.worker
    message_id = queue.add("test.hold", str(tmp_path))
    child = begun(1)
    queue.sql(
        "UPDATE pg_queue_message SET claim_token = gen_random_uuid(), claimed_by = 'thief', "
        "lease_until = now() + interval '1 hour' WHERE id = %s",
        message_id,
    )
    worker.wait_for_line("worker.claim_lost")
    until(lambda: is_gone(child), what="the execution to be killed")
    message = queue.get(message_id)
    assert (message.state, message.worker) == (MessageState.RUNNING, "thief")
    other = queue.add("test.add", 1, 1)
    assert queue.outcome(other).result == 2


def test_an_execution_whose_message_is_cancelled_is_stopped_at_the_next_renewal(
    queue: ProcessQueue, tmp_path: Path, begun: Begun
) -> None:
    """The lease is so long that nothing but the renewal can stop it in the time of this test."""
    message_id = queue.add("test.hold", str(tmp_path), on_failure=[NewMessage(task="test.add", args=[20, 22])])
    worker = queue.worker("--concurrency", "1", LEASE_SECONDS=600)
    child = begun(1)
    assert queue.store.cancel([message_id], reason="by ann") == {message_id}
    assert queue.get(message_id).state is MessageState.CANCELLED, "at once, for whoever waits for it"
    worker.wait_for_line("worker.claim_lost")
    until(lambda: is_gone(child), what="the execution to be killed")
    until(lambda: queue.sql("SELECT 1 FROM pg_queue_result WHERE value = '42'"), what="the continuation to be run")
    message = queue.get(message_id)
    assert (message.state, message.result, message.attempts) == (MessageState.CANCELLED, None, 1)
    assert message.error is not None
    assert message.error.message.startswith("by ann")


def test_workers_run_a_group_and_its_callback_once(queue: ProcessQueue) -> None:
    barrier = queue.store.barriers.create(
        [NewMessage(task="test.add", args=[number, 1]) for number in range(40)],
        callback=NewMessage(task="test.add", args=[40, 2]),
    )
    assert barrier.callback_id is not None
    for _ in range(2):
        queue.worker("--concurrency", "2")
    members = [queue.outcome(message_id) for message_id in barrier.member_ids]
    assert [message.result for message in members] == list(range(1, 41))
    until(lambda: queue.store.get([barrier.callback_id]), what="the callback to be enqueued")
    called = queue.outcome(barrier.callback_id)
    assert (called.result, called.attempts) == (42, 1)
    assert called.enqueued_at >= max(m.finished_at for m in members if m.finished_at)
    assert queue.store.barriers.get([barrier.id])[barrier.id].state is BarrierState.DONE


def test_a_worker_that_claims_again_what_it_has_lost_ends_the_old_execution_and_keeps_the_new_lease(
    queue: ProcessQueue, tmp_path: Path, begun: Begun
) -> None:
    """As one does that was frozen past its lease: it claims before its renewal says what was lost."""
    message_id = queue.add("test.hold", str(tmp_path))
    queue.worker("--concurrency", "2", LEASE_SECONDS=4, RENEW_SECONDS=2)
    old = begun(1)
    queue.sql(  # what a reaper does with a lease that ran out
        "UPDATE pg_queue_message SET claim_token = NULL, claimed_by = NULL, lease_until = NULL WHERE id = %s",
        message_id,
    )
    new = begun(2)
    until(lambda: is_gone(old), 60, "the old execution to be killed")
    ((lease_until,),) = queue.sql("SELECT lease_until FROM pg_queue_message WHERE id = %s", message_id)
    renewed = "SELECT 1 FROM pg_queue_message WHERE id = %s AND lease_until > %s"
    until(lambda: queue.sql(renewed, message_id, lease_until), 60, "the new lease to be renewed")
    assert not is_gone(new)
    (tmp_path / "go").touch()
    message = queue.outcome(message_id)
    assert (message.state, message.attempts, message.result) == (MessageState.SUCCEEDED, 2, "attempt 2")


def test_a_lost_database_connection_costs_no_outcome(queue: ProcessQueue, tmp_path: Path, begun: Begun) -> None:
    message_id = queue.add("test.hold", str(tmp_path))
    worker = queue.worker("--concurrency", "1", LEASE_SECONDS=30, RENEW_SECONDS=10, POLL_SECONDS=0.2)
    begun(1)
    queue.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    connections[queue.store.database].close()  # the test's own session went too
    (tmp_path / "go").touch()
    message = queue.outcome(message_id)
    assert (message.state, message.attempts) == (MessageState.SUCCEEDED, 1)
    assert queue.outcome(queue.add("test.add", 1, 2)).result == 3
    assert worker.stop() == 0


def test_tasks_go_on_when_the_process_that_they_are_forked_from_is_killed(queue: ProcessQueue) -> None:
    message_id = queue.add("test.kill_parent", max_attempts=5)
    worker = queue.worker("--concurrency", "1")
    message = queue.outcome(message_id)
    assert (message.state, message.result) == (MessageState.SUCCEEDED, f"attempt {message.attempts}")
    assert message.attempts > 1
    assert worker.stop() == 0, worker.output


def test_an_idle_worker_is_woken_and_does_not_wait_for_its_poll(queue: ProcessQueue) -> None:
    queue.worker("--concurrency", "1", POLL_SECONDS=60)
    listening = "SELECT 1 FROM pg_stat_activity WHERE starts_with(query, 'LISTEN') AND datname = current_database()"
    until(lambda: queue.sql(listening))
    assert queue.outcome(queue.add("test.add", 1, 2)).result == 3
    before = time.monotonic()
    assert queue.outcome(queue.add("test.add", 2, 2)).result == 4
    assert time.monotonic() - before < 45


def test_a_worker_whose_store_wakes_nobody_polls(queue: ProcessQueue) -> None:
    queue.worker(
        "--concurrency", "1", POLL_SECONDS=0.1, STORES={"default": {"BACKEND": "tests.pg_queue.worker.deaf.DeafStore"}}
    )
    for number in range(2):
        assert queue.outcome(queue.add("test.add", number, 2)).result == number + 2


def test_two_workers_run_each_message_once(queue: ProcessQueue) -> None:
    ids = [queue.add("test.add", number, 1) for number in range(400)]
    workers = [queue.worker("--concurrency", "1") for _ in range(2)]
    results = {message_id: queue.outcome(message_id) for message_id in ids}
    assert {(m.state, m.attempts) for m in results.values()} == {(MessageState.SUCCEEDED, 1)}
    assert [worker.stop() for worker in workers] == [0, 0]
    assert queue.sql("SELECT sum(finished)::int FROM pg_queue_worker") == [(400,)]


def test_once_works_off_what_is_due_and_exits(queue: ProcessQueue, manage: Manage) -> None:
    ids = [queue.add("test.add", number, 1) for number in range(20)]
    process = manage.run("run_worker", "--once", "--json", "--concurrency", "1", env=worker_environment())
    assert process.returncode == 0, process.output
    events = [json.loads(line) for line in process.stdout.splitlines()]
    assert [event["event"] for event in events] == ["started", "stopped"]
    assert events[1]["finished"] == 20
    assert {m.state for m in queue.store.get(ids).values()} == {MessageState.SUCCEEDED}


def test_health_ready_and_metrics_are_served(queue: ProcessQueue) -> None:
    worker = queue.worker("--concurrency", "1", "--health-port", "0")
    port = worker.wait_for_line(r"health_port=(\d+)")[1]
    queue.outcome(queue.add("test.add", 1, 2))

    def read(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return str(answer.read().decode())

    assert json.loads(read("/healthz"))["status"] == "ok"
    ready = json.loads(read("/readyz"))
    assert (ready["status"], ready["queues"]) == ("ready", ["default"])
    until(lambda: 'downbeat_tasks_total{outcome="done"} 1.0' in read("/metrics"))
    queue.add("noop", queue="nobody")
    assert 'downbeat_queue_messages{queue="nobody",state="waiting",store="default"} 1.0' in read("/metrics")


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "said"),
    [
        (["--concurrency", "0"], {}, 2, "--concurrency: expected a number from 1 to 1000, got: 0"),
        (["--queues", "a,b c"], {}, 2, "--queues: expected names of 1 to 128 letters, digits, "),
        (["--queues", ","], {}, 2, "--queues: expected names separated by commas, got: ','"),
        (["--drain-seconds", "nan"], {}, 2, "--drain-seconds: expected a number of seconds, 0 or more, got: nan"),
        (["--drain-seconds", "inf"], {}, 2, "--drain-seconds: expected a number of seconds, 0 or more, got: inf"),
        (["--drain-seconds=-1"], {}, 2, "--drain-seconds: expected a number of seconds, 0 or more, got: -1.0"),
        ([], {"LEASE_SECONDS": 1, "RENEW_SECONDS": 2}, 2, "at most half of LEASE_SECONDS (1)"),
    ],
)
def test_wrong_usage_and_settings_exit_with_2_and_say_why(
    manage: Manage, arguments: list[str], settings: dict[str, object], code: int, said: str
) -> None:
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_PG_QUEUE": json.dumps(settings)}
    process = manage.run("run_worker", "--once", *arguments, env=environment)
    assert process.returncode == code, process.output
    assert said in process.stderr
    assert "Traceback" not in process.stderr


def test_an_unreachable_database_exits_with_3(manage: Manage) -> None:
    process = manage.run("run_worker", "--once", url="postgres://postgres@127.0.0.1:1/none", env=worker_environment())
    assert process.returncode == 3, process.output
    assert "127.0.0.1:1" in process.stderr


def test_a_database_without_migrations_exits_with_4_and_the_command_to_run(queue: ProcessQueue, manage: Manage) -> None:
    queue.sql("DELETE FROM django_migrations WHERE app = 'pg_queue'")
    for command in ("run_worker", "run_reaper"):
        process = manage.run(command, "--once", env=worker_environment())
        assert process.returncode == 4, process.output
        assert "manage.py migrate" in process.stderr
