"""Tasks of the API in real workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.test import override_settings

from pg_queue.api import EmbeddedWorker, WorkerOptions
from tests.pg_queue.tasks.django.api import FLAVOUR, default_task_backend
from tests.pg_queue.worker.conftest import ProcessQueue, process_queue, until
from tests.processes import Manage, ProcessDatabase

SETTINGS = "tests.pg_queue.tasks.django.settings"


@pytest.fixture
def queue(process_database: ProcessDatabase, manage: Manage, django_db_blocker: Any) -> Iterator[ProcessQueue]:
    """The queue of a database of its own, which is the default store here, too."""
    with (
        process_queue(process_database, manage, django_db_blocker) as found,
        override_settings(PG_QUEUE={"STORES": {"default": {"DATABASE": found.store.database}}}),
    ):
        yield found


def ended(result: Any) -> Any:
    """The result, once its task has ended."""

    def look() -> bool:
        result.refresh()
        return bool(result.is_finished)

    until(look, what=f"the end of {result.task.name}")
    return result


@pytest.mark.processes
@pytest.mark.postgresql("the store of its own is on the run's server")
def test_a_worker_process_runs_them_by_its_own_settings(jobs: ModuleType, queue: ProcessQueue, manage: Manage) -> None:
    results = default_task_backend.enqueue_many(
        [
            (jobs.add, [20, 22], {}),
            (jobs.process_id, [], {}),
            (jobs.who, ["hello"], {}),
            (jobs.break_down, ["system exit"], {}),
            (jobs.stay_in_transaction, [], {}),
        ]
    )
    results.append(jobs.retried.enqueue("value"))
    worker = manage("run_worker", "--concurrency", "1", env={"DJANGO_SETTINGS_MODULE": SETTINGS})
    total, process_id, who, gone, left_open, retried = map(ended, results)
    for one in (total, process_id, who):
        assert not one.errors, one.errors[0].traceback
    assert total.return_value == 42
    assert process_id.return_value not in {os.getpid(), worker.pid}
    assert who.return_value == ["hello", 1, who.id, "RUNNING", ["hello"], 1]
    assert (retried.attempts, retried.errors[0].exception_class) == (3, ValueError)
    assert gone.errors[0].exception_class is SystemExit
    assert "left a transaction open" in left_open.errors[0].traceback
    assert {len(one.worker_ids) for one in (total, retried, gone)} == {1}
    assert [one.status for one in (total, retried)] == [FLAVOUR.status.SUCCESSFUL, FLAVOUR.status.FAILED]


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_an_embedded_worker_runs_them_in_its_threads(jobs: ModuleType) -> None:
    worker = EmbeddedWorker(WorkerOptions(queues=("default", "queue_1"), concurrency=2, drain_seconds=10.0))
    worker.start()
    try:
        results = [jobs.who_async.enqueue(), jobs.process_id.enqueue(), jobs.echo.enqueue({"a": [1]})]
        who, process_id, echo = map(ended, results)
    finally:
        worker.stop()
    assert who.return_value == who.id
    assert process_id.return_value == os.getpid()
    assert echo.return_value == {"a": [1]}
