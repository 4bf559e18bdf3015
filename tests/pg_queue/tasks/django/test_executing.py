"""What a worker makes of tasks, and how results tell it. (Upstream: test_immediate_backend, test_database_backend.)"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from pg_queue.api import MessageState, NewMessage, Outcome, enqueue, get_messages, result_store
from pg_queue.domain import Claim, Retry, Settlement, Success
from pg_queue.storage import store
from pg_queue.tasks.django.resolution import options_of
from pg_queue.worker.execution import outcome_of
from tests.pg_queue.tasks.django.api import FLAVOUR, LOGGER, default_task_backend, task_backends, task_with
from tests.pg_queue.tasks.django.conftest import Work
from tests.pg_queue.tasks.django.entries import JOBS, TASKS

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


def done(work: Work, result: Any, executions: int = 1) -> Any:
    """The result after the worker has worked off what is due."""
    assert work() == executions
    result.refresh()
    return result


@pytest.mark.parametrize("name", ["nothing", "nothing_async"])
def test_a_task_that_returns_has_succeeded(jobs: ModuleType, work: Work, name: str) -> None:
    result = done(work, getattr(jobs, name).enqueue(1, two=3))
    assert (result.status, result.is_finished, result.return_value) == (FLAVOUR.status.SUCCESSFUL, True, None)
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.last_attempted_at == result.started_at
    assert (result.attempts, result.worker_ids, result.errors) == (1, ["host:1:2"], [])
    assert (result.args, result.kwargs) == ([1], {"two": 3})
    assert result.task == getattr(jobs, name)
    assert default_task_backend.get_result(result.id) == result


def test_a_coroutine_function_is_awaited(jobs: ModuleType, work: Work) -> None:
    assert done(work, jobs.add.enqueue(20, 22)).return_value == 42


def test_a_result_is_what_json_makes_of_it(jobs: ModuleType, work: Work) -> None:
    assert done(work, jobs.pair.enqueue()).return_value == [{"bytes": "abc", "1": ["a", "b"]}, [0, 1]]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [("thing", TypeError, "Unsupported type"), ("no_number", ValueError, "result: expected what JSON can hold")],
)
def test_a_task_whose_result_cannot_be_kept_has_failed(
    jobs: ModuleType, work: Work, name: str, error: type[Exception], text: str
) -> None:
    result = done(work, getattr(jobs, name).using(backend="retrying").enqueue())
    assert (result.status, result.attempts) == (FLAVOUR.status.FAILED, 1)
    assert issubclass(result.errors[0].exception_class, error)
    assert text in result.errors[0].traceback


@pytest.mark.parametrize(
    ("kind", "error", "ending"),
    [
        ("value", ValueError, "ValueError: no good\n"),
        ("system exit", SystemExit, "SystemExit: told to go\n"),
        ("interrupt", KeyboardInterrupt, "KeyboardInterrupt: told to stop\n"),
    ],
)
def test_a_task_that_raises_has_failed_and_tells_what(
    jobs: ModuleType, work: Work, kind: str, error: type[BaseException], ending: str
) -> None:
    result = done(work, jobs.break_down.enqueue(kind))
    assert (result.status, result.is_finished, result.attempts) == (FLAVOUR.status.FAILED, True, 1)
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value
    (told,) = result.errors
    assert told.exception_class is error
    assert told.traceback.endswith(ending)
    assert result.enqueued_at <= result.started_at <= result.finished_at
    if kind == "value":
        assert "LookupError: nothing there" in told.traceback


def test_an_exception_that_no_json_could_hold_is_told_by_its_traceback(jobs: ModuleType, work: Work) -> None:
    (told,) = done(work, jobs.break_down_oddly.enqueue()).errors
    assert told.exception_class is ValueError
    assert "LookupError('within')" in told.traceback


def test_a_task_is_tried_as_often_as_its_backend_says(jobs: ModuleType, work: Work, heard: list[Any]) -> None:
    result = jobs.retried.enqueue("value")
    done(work, result, executions=3)
    assert (result.status, result.attempts) == (FLAVOUR.status.FAILED, 3)
    assert [(name, status) for name, _, status in heard] == [
        ("enqueued", "READY"),
        ("started", "RUNNING"),
        ("started", "RUNNING"),
        ("started", "RUNNING"),
        ("finished", "FAILED"),
    ]


def test_a_task_that_waits_to_be_tried_again_is_ready_and_has_its_error(jobs: ModuleType, settings: Any) -> None:
    options = {**TASKS["retrying"]["OPTIONS"], "RETRY_BACKOFF_SECONDS": 60}
    settings.TASKS = {**TASKS, "retrying": {**TASKS["retrying"], "OPTIONS": options}}
    result = jobs.retried.enqueue("value")
    (claim,) = store().claim(queues=["default"], limit=1, lease=timedelta(60), worker="w")
    outcome = outcome_of(claim.message)
    assert isinstance(outcome, Retry)
    settle(claim, outcome)
    result.refresh()
    assert (result.status, result.attempts, result.finished_at) == (FLAVOUR.status.READY, 1, None)
    assert result.errors[0].exception_class is ValueError
    assert result.last_attempted_at is not None


def test_a_tasks_own_options_go_before_its_backends(jobs: ModuleType) -> None:
    own = task_with(backend="retrying", retry_backoff_seconds=9, never_on=(KeyError,))(jobs.plain)
    assert options_of(own) == {"max_attempts": 3, "retry_backoff_seconds": 9, "never_on": (KeyError,)}
    assert options_of(jobs.retried) == {"max_attempts": 3, "retry_backoff_seconds": 0}
    assert options_of(jobs.nothing) == {"max_attempts": 1}
    once = task_with(backend="retrying", delivery="at_most_once", time_limit_seconds=5)(jobs.plain)
    assert options_of(once) == {"delivery": "at_most_once", "time_limit_seconds": 5}


def test_an_error_that_the_task_says_is_final_is(jobs: ModuleType, work: Work, heard: list[Any]) -> None:
    result = done(work, jobs.particular.enqueue("value"))
    assert (result.status, result.attempts) == (FLAVOUR.status.FAILED, 1)
    assert [name for name, _, _ in heard] == ["enqueued", "started", "finished"]


def test_a_task_that_asks_to_be_run_again_is_as_long_as_attempts_are_left(jobs: ModuleType, work: Work) -> None:
    result = done(work, jobs.ask_for_more.enqueue())
    assert (result.status, result.attempts) == (FLAVOUR.status.FAILED, 1)
    assert done(work, jobs.ask_for_more.using(backend="retrying").enqueue(), executions=3).attempts == 3


def test_a_task_that_gives_up_is_not_tried_again(jobs: ModuleType, work: Work, heard: list[Any]) -> None:
    result = done(work, jobs.give_up.using(backend="retrying").enqueue())
    assert (result.status, result.attempts) == (FLAVOUR.status.FAILED, 1)
    assert result.errors[0].exception_class is OSError
    assert [name for name, _, _ in heard] == ["enqueued", "started", "finished"]


def test_a_task_is_given_its_context(jobs: ModuleType, work: Work) -> None:
    result = done(work, jobs.who.enqueue("hello"))
    assert result.return_value == ["hello", 1, result.id, "RUNNING", ["hello"], 1]
    result = done(work, jobs.who_async.enqueue())
    assert result.return_value == result.id


def test_what_a_task_leaves_in_its_context_no_other_finds(jobs: ModuleType, work: Work) -> None:
    results = [jobs.change_mood.enqueue(), jobs.change_mood.enqueue()]
    assert work() == 2
    for result in results:
        result.refresh()
        assert result.return_value == "fresh"


def test_signals_tell_of_the_start_and_the_end_with_the_backend_as_their_sender(
    jobs: ModuleType, work: Work, heard: list[Any]
) -> None:
    done(work, jobs.nothing.enqueue())
    sender = type(task_backends["default"])
    assert heard == [("enqueued", sender, "READY"), ("started", sender, "RUNNING"), ("finished", sender, "SUCCESSFUL")]


def test_a_receiver_that_raises_keeps_no_task_from_its_end(jobs: ModuleType, work: Work) -> None:
    def refuse(**_: Any) -> None:
        raise LookupError("receiver")

    FLAVOUR.signals.task_started.connect(refuse)
    try:
        result = done(work, jobs.echo.enqueue(1))
    finally:
        FLAVOUR.signals.task_started.disconnect(refuse)
    assert result.return_value == 1


def test_starts_and_ends_are_logged_as_the_api_does(
    jobs: ModuleType, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger=LOGGER):
        good, bad = jobs.nothing.enqueue(), jobs.break_down.enqueue("value")
        work()
    told = {record.getMessage(): record for record in caplog.records if record.name == LOGGER}
    assert len([text for text in told if good.id in text and "NoneType" not in text]) == 2
    (failed,) = [record for text, record in told.items() if bad.id in text and "state=FAILED" in text]
    assert failed.levelname == "ERROR"
    assert failed.exc_info
    assert failed.exc_info[0] is ValueError


def test_a_message_that_another_than_the_api_enqueued_runs_as_the_task_that_it_names(
    jobs: ModuleType, work: Work
) -> None:
    message_id = enqueue(f"{JOBS}.echo", [5], queue="queue_1", priority=7)
    result = default_task_backend.get_result(str(message_id))
    assert (result.task.priority, result.task.queue_name, result.task.run_after) == (40, "queue_1", None)
    assert done(work, result).return_value == 5


@pytest.mark.parametrize("path", ["subprocess.check_output", f"{JOBS}.plain"])
def test_a_row_that_names_anything_but_a_task_runs_nothing(jobs: ModuleType, work: Work, path: str) -> None:
    (message_id,) = store().enqueue([NewMessage(task=path, args=[["touch", "/nowhere"]], max_attempts=1)])
    assert work() == 1
    message = get_messages([message_id])[message_id]
    assert message.state is MessageState.FAILED
    assert message.error is not None
    assert message.error.type == "worker.unknown_task"


@pytest.mark.django_db
def test_a_result_that_is_kept_elsewhere_is_found_there_until_it_is_deleted(jobs: ModuleType, settings: Any) -> None:
    settings.PG_QUEUE = {"RESULTS": {"DATABASE": "default"}}
    result = jobs.nothing.enqueue()
    (claim,) = store().claim(queues=["default"], limit=1, lease=timedelta(60), worker="w")
    assert claim.message.started_at is not None
    elsewhere = result_store()
    assert elsewhere is not None
    kept = Outcome(
        message_id=claim.message.id,
        state=MessageState.SUCCEEDED,
        attempts=1,
        started_at=claim.message.started_at,
        value="kept",
    )
    elsewhere.put([kept])
    settle(claim, Success())
    result.refresh()
    assert result.return_value == "kept"
    elsewhere.put([replace(kept, namespace="another", started_at=kept.started_at + timedelta(1))])
    with pytest.raises(FLAVOUR.no_result):
        result.refresh()
    elsewhere.forget([claim.message.id])
    with pytest.raises(FLAVOUR.no_result):
        result.refresh()


def settle(claim: Claim, outcome: Success | Retry) -> None:
    """Tell the store of it."""
    store().settle([Settlement(message_id=claim.message.id, token=claim.token, outcome=outcome)])
