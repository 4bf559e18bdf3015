"""A real worker of ours, real processes that are killed: what Celery's callers are told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery, chain, chord
from kombu import pools

from tests.pg_queue.celery.native.conftest import with_tasks
from tests.pg_queue.worker.conftest import ProcessQueue, process_queue, until, worker_environment
from tests.processes import Manage, RunningProcess, copied_database

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.postgresql("Celery's transport and result backend")]


class Service:
    """A database, a worker on it, and an app that sends to it and asks it."""

    def __init__(self, queue: ProcessQueue, manage: Manage, app: Any) -> None:
        self.queue, self.app, self._manage = queue, app, manage
        self.worker = self.start()
        self.reaper = queue.reaper()

    def start(self) -> RunningProcess:
        environment = worker_environment(MAX_ATTEMPTS=3)
        environment["DJANGO_SETTINGS_MODULE"] = "tests.pg_queue.celery.native.settings"
        process = self._manage("run_worker", "--queues", "celery", "--concurrency", "2", env=environment)
        process.wait_for_line("started command=run_worker")
        return process

    def task(self, name: str) -> Any:
        return self.app.tasks[f"native.{name}"]


@pytest.fixture(scope="module")
def service(process_template: str, django_db_blocker: Any) -> Iterator[Service]:
    with copied_database(os.environ["DATABASE_URL"], process_template, "native") as database:
        manage = Manage(database.url)
        app = with_tasks(Celery("caller", set_as_current=False, broker=f"downbeat+{database.url}"))
        app.conf.update(result_backend=f"downbeat+{database.url}")
        try:
            with process_queue(database, manage, django_db_blocker) as queue:
                yield Service(queue, manage, app)
        finally:
            manage.clean_up()
            with suppress(Exception):
                app.backend.result_consumer.stop()
                app.backend.sessions.close()
            pools.reset()


def test_canvas_runs_in_our_worker_alone(service: Service) -> None:
    add = service.task("add")
    chained = chain(add.s(1, 2), add.s(3)).delay()
    counted = chord([add.s(i, i) for i in range(5)], service.task("total").s()).delay()
    retried = service.task("retries").delay(2)
    assert chained.get(timeout=30) == 6
    assert counted.get(timeout=30) == 20
    assert retried.get(timeout=30) == 2


def test_a_soft_limit_lets_the_task_tidy_up(service: Service) -> None:
    results = service.task("tidies").apply_async(soft_time_limit=1), service.task("limited").delay()
    assert [one.get(timeout=30) for one in results] == ["tidied", "tidied"]


@pytest.mark.parametrize(("name", "options"), [("overruns", {}), ("hangs", {"time_limit": 0.5})])
def test_a_hard_limit_kills_and_says_so(service: Service, name: str, options: Any) -> None:
    result = service.task(name).apply_async(**options)
    with pytest.raises(TimeLimitExceeded, match=r"0\.5"):
        result.get(timeout=30)


def test_a_task_that_ends_its_process_has_failed_or_is_run_again(service: Service) -> None:
    ended, again = service.task("ends").delay(), service.task("ends_once").delay()
    with pytest.raises(WorkerLostError, match="exited with code 3"):
        ended.get(timeout=30)
    assert again.get(timeout=30) == "lived"


def test_what_a_killed_worker_had_begun_is_run_again_only_with_acks_late(service: Service, tmp_path: Path) -> None:
    early, late = (service.task(name).delay(str(tmp_path)) for name in ("holds", "holds_late"))
    until(lambda: (tmp_path / f"{early.id}-0").exists() and (tmp_path / f"{late.id}-0").exists(), what="both begun")
    service.worker.kill()
    service.worker = service.start()
    with pytest.raises(WorkerLostError):
        early.get(timeout=30)
    until(lambda: (tmp_path / f"{late.id}-1").exists(), what="the second execution")
    (tmp_path / "go").touch()
    assert late.get(timeout=30) == "1"
    assert not (tmp_path / f"{early.id}-1").exists()
