"""Declaring tasks: what is made of a function, what may vary, what is refused. (Upstream: test_tasks, test_utils.)"""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from pg_queue.api import get_task, tasks
from pg_queue.errors import UnknownTask
from pg_queue.tasks.django.results import queue_priority
from tests.pg_queue.tasks.django.api import (
    FLAVOUR,
    PgQueueBackend,
    Task,
    default_task_backend,
    task,
    task_backends,
    task_with,
)
from tests.pg_queue.tasks.django.entries import JOBS


def test_the_backend_that_tasks_names_is_ours_and_says_what_it_can_do() -> None:
    backend = task_backends["default"]
    assert default_task_backend == backend
    assert type(backend) is PgQueueBackend
    assert backend.alias == "default"
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


def test_a_decorated_function_is_a_task_that_can_still_be_called(jobs: ModuleType) -> None:
    for one in (jobs.nothing, jobs.nothing_async, jobs.echo):
        assert isinstance(one, Task)
    assert (jobs.echo.name, jobs.echo.module_path) == ("echo", f"{JOBS}.echo")
    assert (jobs.echo.priority, jobs.echo.queue_name, jobs.echo.backend) == (-7, "queue_1", "default")
    assert jobs.echo.call(42) == 42
    assert jobs.add.call(1, 2) == 3


def test_a_task_can_be_awaited_too(jobs: ModuleType) -> None:
    assert async_to_sync(jobs.echo.acall)(42) == 42
    assert async_to_sync(jobs.add.acall)(1, 2) == 3


def test_a_variant_is_another_task_and_leaves_the_first_as_it_is(jobs: ModuleType) -> None:
    later = timezone.now() + timedelta(hours=1)
    variant = jobs.nothing.using(run_after=later).using(priority=10, queue_name="queue_1")
    assert (variant.run_after, variant.priority, variant.queue_name) == (later, 10, "queue_1")
    assert (jobs.nothing.run_after, jobs.nothing.priority, jobs.nothing.queue_name) == (None, 0, "default")
    same = jobs.nothing.using()
    assert same == jobs.nothing
    assert same is not jobs.nothing


def test_a_variant_may_have_another_backend_but_none_that_is_unknown_or_missing(jobs: ModuleType) -> None:
    assert jobs.nothing.using(backend="retrying").get_backend() == task_backends["retrying"]
    assert not isinstance(jobs.nothing.using(backend="immediate").get_backend(), PgQueueBackend)
    with pytest.raises(FLAVOUR.unknown_backend, match="'unknown' doesn't exist"):
        jobs.nothing.using(backend="unknown")
    with pytest.raises(FLAVOUR.unknown_backend, match=r"does\.not\.exist"):
        jobs.nothing.using(backend="missing")


@pytest.mark.parametrize("priority", [-101, 101, 3.1])
def test_a_priority_is_a_whole_number_from_minus_100_to_100(jobs: ModuleType, priority: Any) -> None:
    with pytest.raises(FLAVOUR.invalid, match="priority must be a whole number between -100 and 100"):
        jobs.nothing.using(priority=priority)


def test_every_priority_has_its_place_in_the_queues_ten_and_keeps_its_side_of_the_middle() -> None:
    ours = [queue_priority(priority) for priority in range(-100, 101)]
    assert ours == sorted(ours)
    assert (ours[0], ours[99], ours[100], ours[101], ours[200]) == (1, 4, 5, 6, 10)


def test_an_instant_has_a_timezone(jobs: ModuleType) -> None:
    with pytest.raises(FLAVOUR.invalid, match="run_after must be an aware datetime"):
        jobs.nothing.using(run_after=datetime(2030, 1, 1))


def test_a_queue_is_one_of_the_backends_unless_it_names_none(jobs: ModuleType) -> None:
    with pytest.raises(FLAVOUR.invalid, match="Queue 'queue-2' is not valid for backend"):
        jobs.nothing.using(queue_name="queue-2")
    assert jobs.nothing.using(queue_name="queue-2", backend="retrying").queue_name == "queue-2"


def test_a_queue_that_no_worker_could_be_told_to_serve_is_refused(jobs: ModuleType) -> None:
    with pytest.raises(FLAVOUR.invalid, match=r"queue_name: expected 1 to 128 letters.*got: 'a,b'"):
        jobs.nothing.using(queue_name="a,b", backend="retrying")


def test_a_function_within_a_function_and_what_is_none_are_refused() -> None:
    def inner() -> None:
        """Nowhere to be found."""

    for function in (inner, any, lambda: None):
        with pytest.raises(FLAVOUR.invalid, match="must be defined at a module level"):
            task()(function)


def test_a_task_that_takes_the_context_has_it_as_its_first_argument(jobs: ModuleType) -> None:
    with pytest.raises(FLAVOUR.invalid, match="does not have a first argument of 'context'"):
        task(takes_context=True)(jobs.plain)


def test_a_task_may_have_a_policy_of_its_own(jobs: ModuleType) -> None:
    persistent = task_with(max_attempts=4, retry_backoff_seconds=1.5, time_limit_seconds=9)(jobs.plain)
    assert (persistent.max_attempts, persistent.retry_backoff_seconds, persistent.time_limit_seconds) == (4, 1.5, 9)
    assert persistent.using(priority=3).max_attempts == 4
    for name, value in (("max_attempts", 0), ("retry_backoff_seconds", -1), ("time_limit_seconds", True)):
        with pytest.raises(FLAVOUR.invalid, match=f"{name}: expected .*, got: {value}"):
            task_with(**{name: value})(jobs.plain)


def test_the_registry_knows_a_task_with_its_signature_and_its_backends_policy(jobs: ModuleType) -> None:
    info = get_task(f"{JOBS}.who")
    assert (info.source, info.signature, info.doc) == (
        "django",
        "(greeting: 'str') -> 'list[Any]'",
        "Return what the context says.",
    )
    assert info.max_attempts == 1
    jobs.who.using()  # validated in this test, whoever imported the module
    assert f"{JOBS}.who" in {one.name for one in tasks()}


@pytest.mark.parametrize(
    "path",
    [
        "subprocess.check_output",  # importable, and nobody's task
        f"{JOBS}.plain",  # in a module of tasks, and none
        f"{JOBS}.missing",
        f"{JOBS}.os.getpid",
        f"{JOBS}.renamed",  # a task, but not under this name
        "tests.pg_queue.tasks.django.other.task",
        "no name at all",
    ],
)
def test_no_name_leads_to_anything_but_a_task_of_the_project(path: str) -> None:
    with pytest.raises(UnknownTask, match="expected the name of a registered task"):
        get_task(path)


def test_nothing_is_imported_that_is_in_no_module_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr("pg_queue.tasks.django.resolution.import_module", imported.append)
    with pytest.raises(UnknownTask):
        get_task("antigravity.fly")
    assert imported == []


def test_a_module_that_cannot_be_imported_is_an_unknown_task_with_that_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, settings: Any
) -> None:
    (tmp_path / "broken_jobs.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings.TASKS = {"default": {"BACKEND": "pg_queue.tasks.PgQueueBackend", "OPTIONS": {"MODULES": ["broken_jobs"]}}}
    with pytest.raises(UnknownTask) as caught:
        get_task("broken_jobs.run")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.skipif(django.VERSION < (6, 1), reason="django.tasks: pickling came with Django 6.1")
def test_a_task_comes_through_a_pickle_by_its_path(jobs: ModuleType) -> None:
    assert pickle.loads(pickle.dumps(jobs.echo)) == jobs.echo


@pytest.mark.skipif(django.VERSION < (6, 0), reason="django.tasks: Django 6.0 or later")
def test_on_django_6_the_backend_is_that_of_djangos_own_api() -> None:
    from django.tasks.backends.base import BaseTaskBackend

    from pg_queue.tasks import PgQueueBackend as found

    assert issubclass(found, BaseTaskBackend)
