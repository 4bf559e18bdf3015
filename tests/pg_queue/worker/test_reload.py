"""New code on SIGHUP: children are replaced one by one, and what runs runs on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pg_queue.domain import MessageState
from tests.pg_queue.worker.conftest import ProcessQueue, is_gone, until, worker_environment
from tests.processes import RunningProcess

pytestmark = pytest.mark.processes

Begun = Callable[[int], int]


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The file that says which version of the code is there to be loaded."""
    file = tmp_path / "version"
    file.write_text("one")
    return file


@pytest.fixture
def worker(queue: ProcessQueue, version: Path) -> Iterator[RunningProcess]:
    """A worker of two children with version one."""
    environment = {**worker_environment(LEASE_SECONDS=60, RENEW_SECONDS=10), "TEST_VERSION": str(version)}
    process = queue._manage("run_worker", "--concurrency", "2", env=environment)
    process.wait_for_line("started command=run_worker")
    yield process
    assert process.stop() == 0, process.output


def test_new_code_replaces_children_one_by_one_what_runs_runs_on_and_broken_code_replaces_nothing(
    queue: ProcessQueue, worker: RunningProcess, version: Path, tmp_path: Path, begun: Begun
) -> None:
    long = queue.add("test.hold", str(tmp_path))
    holding = begun(1)
    version.write_text("broken")
    worker.send(signal.SIGHUP)
    worker.wait_for_line("worker.reload_failed.*exited with code 1")
    before = queue.outcome(queue.add("test.version")).result
    assert before[0] == "one"
    version.write_text("two")
    around = [queue.add("test.process") for _ in range(150)]
    worker.send(signal.SIGHUP, group=True)  # as a supervisor may: the whole group
    worker.wait_for_line("worker.reloaded")
    around += [queue.add("test.process") for _ in range(150)]
    until(lambda: is_gone(before[1]), what="the idle child of version one to be replaced")
    ids = [queue.add("test.version") for _ in range(10)]
    assert {queue.outcome(message_id).result[0] for message_id in ids} == {"two"}
    assert {(m.state, m.attempts) for m in map(queue.outcome, around)} == {(MessageState.SUCCEEDED, 1)}
    assert not is_gone(holding), "it runs on, with the code that it has"
    assert queue.get(long).attempts == 1
    (tmp_path / "go").touch()
    assert queue.outcome(long).result == "attempt 1"
    until(lambda: is_gone(holding), what="the last child of version one to be replaced")
    worker.wait_for_line(rf"worker.child_ended pid={holding} why=reload")
    assert {queue.outcome(queue.add("test.version")).result[0] for _ in range(4)} == {"two"}
