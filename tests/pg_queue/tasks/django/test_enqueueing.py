"""Enqueueing and reading back. (Upstream: test_tasks, test_database_backend, test_dummy_backend.)"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.utils import timezone

from pg_queue.api import MessageState, NewMessage, cancel, get_messages
from pg_queue.errors import PayloadTooLarge
from pg_queue.storage import store
from pg_queue.storage.postgres.connection import StoreConnection
from pg_queue.tasks import registry
from tests.pg_queue.tasks.django.api import FLAVOUR, LOGGER, default_task_backend, task_backends
from tests.pg_queue.tasks.django.conftest import Work
from tests.pg_queue.tasks.django.entries import BACKEND, JOBS, TASKS

pytestmark = pytest.mark.django_db


def message_of(result: Any) -> Any:
    return get_messages([uuid.UUID(result.id)])[uuid.UUID(result.id)]


@pytest.mark.parametrize("name", ["nothing", "nothing_async"])
def test_an_enqueued_task_is_a_message_and_its_result_is_ready(jobs: ModuleType, name: str) -> None:
    task = getattr(jobs, name)
    result = task.enqueue(1, two=(3, b"four"))
    assert (result.status, result.is_finished, result.attempts) == (FLAVOUR.status.READY, False, 0)
    assert (result.args, result.kwargs) == ([1], {"two": [3, "four"]})
    assert result.task == task
    assert result.backend == "default"
    assert (result.started_at, result.last_attempted_at, result.finished_at) == (None, None, None)
    assert (result.errors, result.worker_ids) == ([], [])
    assert abs(result.enqueued_at - timezone.now()) < timedelta(minutes=1)
    with pytest.raises(ValueError, match="not finished yet"):
        _ = result.return_value
    message = message_of(result)
    assert (message.task, message.args, message.kwargs) == (f"{JOBS}.{name}", [1], {"two": [3, "four"]})
    assert (message.queue, message.priority, message.max_attempts) == ("default", 5, 1)


def test_what_is_read_back_equals_what_was_enqueued(jobs: ModuleType) -> None:
    later = timezone.now() + timedelta(hours=1)
    for task in (jobs.nothing, jobs.echo, jobs.nothing.using(priority=-3, queue_name="queue_1", run_after=later)):
        result = task.enqueue(1)
        found = default_task_backend.get_result(result.id)
        assert found == result
        assert found.task == task
        assert task.get_result(result.id) == result


def test_the_queue_has_the_priority_and_the_instant_and_the_task_keeps_its_own(jobs: ModuleType) -> None:
    later = datetime(2040, 1, 1, tzinfo=UTC)
    result = jobs.nothing.using(priority=-3, run_after=later).enqueue()
    assert (message_of(result).priority, message_of(result).run_after) == (4, later)
    assert (result.task.priority, result.task.run_after) == (-3, later)


def test_the_higher_priority_goes_first(jobs: ModuleType) -> None:
    results = [jobs.nothing.using(priority=priority).enqueue() for priority in (-100, 0, 100, 1)]
    claims = store().claim(queues=["default"], limit=10, lease=timedelta(60), worker="w")
    expected = [results[place].id for place in (2, 3, 1, 0)]
    assert [str(claim.message.id) for claim in claims] == expected


def test_a_task_that_is_put_off_waits(jobs: ModuleType, work: Work) -> None:
    result = jobs.nothing.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    assert work() == 0
    result.refresh()
    assert result.status == FLAVOUR.status.READY


def test_what_json_cannot_hold_is_refused(jobs: ModuleType) -> None:
    for value in (datetime.now(), object(), {"a": {1, 2}}):
        with pytest.raises(TypeError, match="Unsupported type"):
            jobs.nothing.enqueue(value)
    with pytest.raises(ValueError, match="Unsupported value"):
        jobs.nothing.enqueue(b"\xff")
    with pytest.raises(PayloadTooLarge, match="args"):
        jobs.nothing.enqueue("x" * 300_000)
    assert store().depths() == []


def test_a_task_is_validated_again_when_it_is_enqueued(jobs: ModuleType, settings: Any) -> None:
    variant = jobs.nothing.using(queue_name="queue_1")
    settings.TASKS = {**TASKS, "default": {**TASKS["default"], "QUEUES": ["other"]}}
    with pytest.raises(FLAVOUR.invalid, match="Queue 'queue_1' is not valid"):
        variant.enqueue()


def test_without_a_backend_nothing_is_enqueued(jobs: ModuleType, settings: Any) -> None:
    settings.TASKS = {"other": {"BACKEND": BACKEND}}
    with pytest.raises(FLAVOUR.unknown_backend):
        jobs.nothing.enqueue()


def test_a_task_that_a_worker_would_not_find_is_refused(jobs: ModuleType, settings: Any) -> None:
    with pytest.raises(FLAVOUR.invalid, match=r"under its function's own name, got: .*_hidden"):
        jobs.renamed.enqueue()
    settings.TASKS = {"default": {"BACKEND": BACKEND}}
    with pytest.raises(FLAVOUR.invalid, match=r"installed app, or of one of TASKS\['default'\]\['OPTIONS'\]"):
        jobs.nothing.enqueue()


def test_a_task_whose_name_another_kind_of_task_has_is_refused(
    jobs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_registered", "_origins"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    registry.register(jobs.plain, f"{JOBS}.nothing", {})
    with pytest.raises(FLAVOUR.invalid, match="which a downbeat task has"):
        jobs.nothing.enqueue()


@pytest.mark.parametrize("result_id", ["123", "", str(uuid.UUID(int=1)), None])
def test_an_id_that_nobody_has_is_said_to_have_no_result(jobs: ModuleType, result_id: Any) -> None:
    with pytest.raises(FLAVOUR.no_result):
        default_task_backend.get_result(result_id)
    with pytest.raises(FLAVOUR.no_result):
        jobs.nothing.get_result(result_id)


def test_a_message_of_another_kind_has_no_result_here() -> None:
    (message_id,) = store().enqueue([NewMessage(task="test.of_another_kind")])
    with pytest.raises(FLAVOUR.no_result):
        default_task_backend.get_result(str(message_id))


def test_a_task_does_not_take_anothers_result_for_its_own(jobs: ModuleType) -> None:
    result = jobs.nothing_async.enqueue()
    with pytest.raises(Exception, match=rf"Task does not match \(received '{JOBS}\.nothing_async'\)"):
        jobs.nothing.get_result(result.id)


@pytest.mark.postgresql("the statements of its store are counted")
def test_many_tasks_are_enqueued_in_one_statement(
    jobs: ModuleType, heard: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, statements = StoreConnection.fetch, []

    def note(self: StoreConnection, sql: str, *rest: Any) -> Any:
        statements.append(sql)
        return fetch(self, sql, *rest)

    monkeypatch.setattr(StoreConnection, "fetch", note)
    store.cache_clear()
    calls = [(jobs.echo, [number], {}) for number in range(50)] + [(jobs.nothing, (), {"a": 1})]
    results = task_backends["default"].enqueue_many(calls)
    assert len([sql for sql in statements if "INSERT INTO" in sql]) == 1
    assert len(statements) == 2, "and one that reads them back"
    assert [result.args for result in results] == [[number] for number in range(50)] + [[]]
    assert results[-1].kwargs == {"a": 1}
    assert heard == [("enqueued", type(task_backends["default"]), "READY")] * 51
    assert task_backends["default"].enqueue_many([]) == []


def test_a_backend_takes_tasks_that_were_declared_for_another(jobs: ModuleType) -> None:
    result = task_backends["retrying"].enqueue(jobs.nothing, [], {})
    assert (result.backend, result.task.backend, message_of(result).max_attempts) == ("retrying", "retrying", 3)


def test_of_many_tasks_all_are_enqueued_or_none(jobs: ModuleType) -> None:
    with pytest.raises(TypeError):
        task_backends["default"].enqueue_many([(jobs.nothing, [], {}), (jobs.nothing, [object()], {})])
    assert store().depths() == []


def test_an_enqueue_is_logged_as_the_api_does(jobs: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger=LOGGER):
        result = jobs.nothing.enqueue()
    (record,) = [record for record in caplog.records if record.name == LOGGER]
    assert result.id in record.getMessage()
    assert "enqueued" in record.getMessage()


def test_a_cancelled_task_has_failed_and_says_by_whom(jobs: ModuleType) -> None:
    result = jobs.nothing.enqueue()
    cancel([uuid.UUID(result.id)], reason="by the operator")
    result.refresh()
    assert (result.status, result.is_finished) == (FLAVOUR.status.FAILED, True)
    (error,) = result.errors
    assert error.exception_class.__name__ == "TaskFailed"
    assert "message.cancelled: by the operator" in error.traceback


def test_a_tenants_tasks_are_in_its_own_namespace(jobs: ModuleType, work: Work) -> None:
    result = jobs.nothing.using(backend="tenant").enqueue()
    with pytest.raises(FLAVOUR.no_result):
        default_task_backend.get_result(result.id)
    assert work() == 0
    assert work("tenant") == 1
    result.refresh()
    assert (result.status, result.backend) == (FLAVOUR.status.SUCCESSFUL, "tenant")


def test_without_timezones_instants_are_naive_as_the_projects_are(jobs: ModuleType, settings: Any) -> None:
    settings.USE_TZ = False
    settings.TIME_ZONE = "Asia/Tokyo"
    later = datetime(2040, 1, 1, 9, 0)
    result = jobs.nothing.using(run_after=later).enqueue()
    assert result.task.run_after == later
    assert message_of(result).run_after == datetime(2040, 1, 1, tzinfo=UTC)
    assert abs(result.enqueued_at - timezone.now()) < timedelta(minutes=1)
    assert default_task_backend.get_result(result.id) == result


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_an_enqueue_is_the_transactions(jobs: ModuleType) -> None:
    other = connection.copy()
    try:
        with transaction.atomic():
            result = jobs.nothing.enqueue()
            assert result.enqueued_at is not None
            assert seen_by(other) == 0
        assert seen_by(other) == 1
        with transaction.atomic():
            jobs.nothing.enqueue()
            transaction.set_rollback(True)
        assert seen_by(other) == 1
    finally:
        other.close()


def seen_by(other: Any) -> int:
    with other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_queue_message")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_coroutines_enqueue_ask_and_refresh(jobs: ModuleType) -> None:
    async_to_sync(_enqueue_ask_and_refresh)(jobs)


async def _enqueue_ask_and_refresh(jobs: ModuleType) -> None:
    result = await jobs.add.aenqueue(1, 2)
    assert (result.status, result.args) == (FLAVOUR.status.READY, [1, 2])
    assert await default_task_backend.aget_result(result.id) == result
    assert await jobs.add.aget_result(result.id) == result
    await result.arefresh()
    (second,) = await task_backends["default"].aenqueue_many([(jobs.echo, [1], {})])
    assert second.task == jobs.echo
    for missing in ("123", str(uuid.UUID(int=1))):
        with pytest.raises(FLAVOUR.no_result):
            await default_task_backend.aget_result(missing)
    with pytest.raises(TypeError):
        await jobs.add.aenqueue(object())
    assert (await sync_to_async(message_of)(result)).state == MessageState.WAITING
