"""Celery tasks in messages of Downbeat's own: Celery's hooks and signals, our attempts."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery

from pg_queue.domain import Death, Retry, Success
from pg_queue.errors import CanvasRefused
from pg_queue.tasks import get_task
from pg_queue.worker.execution import outcome_of
from tests.pg_queue.celery.native.conftest import noted, ours
from tests.pg_queue.celery.native.tasks import seen

pytestmark = pytest.mark.django_db


def test_a_task_sees_its_message_as_its_request() -> None:
    message = ours("native.sees", 1, kwargs={"a": 2}, headers={"schedule_id": "7"}, queue="slow", attempts=2)
    assert outcome_of(message) == Success(
        value={
            "args": [1],
            "kwargs": {"a": 2},
            "id": str(message.id),
            "root_id": str(message.id),
            "parent_id": None,
            "retries": 1,
            "headers": {"schedule_id": "7"},
            "queue": "slow",
            "redelivered": True,
            "called_directly": False,
            "hostname": "host:1:2",
        }
    )


def test_what_a_task_raises_is_a_retry_as_long_as_attempts_are_left_and_then_a_failure() -> None:
    with noted("task_prerun", "task_retry", "task_failure", "task_postrun") as sent:
        outcome = outcome_of(ours("native.fails"))
        assert isinstance(outcome, Retry)
        assert outcome.failure.type == "ValueError"
        assert "raise ValueError(text)" in outcome.failure.traceback
        assert sent == ["task_prerun", "task_retry", "task_postrun"]
        sent.clear()
        assert outcome_of(ours("native.fails", attempts=3)).failure.message == "no"  # type: ignore[union-attr]
        assert sent == ["task_prerun", "task_failure", "task_postrun"]


def test_a_task_asks_for_a_retry_of_the_same_message_after_its_countdown() -> None:
    outcome = outcome_of(ours("native.retries", 1, kwargs={"countdown": 7}))
    assert isinstance(outcome, Retry)
    assert (outcome.failure.type, outcome.delay, outcome.followers) == ("KeyError", timedelta(seconds=7), ())
    assert outcome_of(ours("native.retries", 1, attempts=2)) == Success(value=1)


def test_a_retry_at_an_instant_waits_until_then() -> None:
    eta = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    outcome = outcome_of(ours("native.retries_at", eta))
    assert isinstance(outcome, Retry)
    assert timedelta(minutes=59) < outcome.delay <= timedelta(hours=1)


@pytest.mark.parametrize(
    ("attempts", "most", "kwargs"),
    [(3, 9, {}), (2, 9, {"max_retries": 1}), (2, 2, {})],
    ids=["the task's", "the call's", "the message's"],
)
def test_the_least_of_all_limits_of_retries_holds(attempts: int, most: int, kwargs: Any) -> None:
    with noted("task_failure", "task_retry") as sent:
        outcome = outcome_of(ours("native.retries", 9, attempts=attempts, max_attempts=most, kwargs=kwargs))
    assert isinstance(outcome, Death)
    assert outcome.failure.type == "KeyError"
    assert sent == ["task_failure"]


def test_the_limit_of_one_message_is_not_the_next_ones() -> None:
    outcome_of(ours("native.autoretries", attempts=2, max_attempts=2))
    assert isinstance(outcome_of(ours("native.autoretries", attempts=2, max_attempts=9)), Retry)


def test_a_task_that_goes_on_after_asking_for_a_retry_is_retried() -> None:
    outcome = outcome_of(ours("native.retries_on"))
    assert isinstance(outcome, Retry)
    assert outcome.delay == timedelta(seconds=1)


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 4), (2, 6)])
def test_autoretry_waits_as_celery_computes_it(attempts: int, seconds: int) -> None:
    outcome = outcome_of(ours("native.autoretries", attempts=attempts, max_attempts=9))
    assert isinstance(outcome, Retry)
    assert (outcome.failure.type, outcome.delay) == ("ConnectionError", timedelta(seconds=seconds))


def test_hooks_of_a_task_class_are_called_in_celerys_order() -> None:
    outcome_of(ours("native.hooked"))
    assert seen == ["before_start", "__call__", ("on_success", "done"), ("after_return", "SUCCESS")]
    seen.clear()
    outcome_of(ours("native.hooked", True))
    assert seen == ["before_start", "__call__", ("on_retry", "ValueError")]
    seen.clear()
    outcome_of(ours("native.hooked", True, attempts=3))
    assert seen == ["before_start", "__call__", ("on_failure", "ValueError"), ("after_return", "FAILURE")]


def test_ignored_is_done_and_rejected_is_dead_or_comes_back() -> None:
    assert outcome_of(ours("native.ignored")) == Success()
    assert isinstance(outcome_of(ours("native.rejected")), Death)
    assert isinstance(outcome_of(ours("native.rejected", True)), Retry)


def test_giving_up_is_final_whatever_attempts_are_left() -> None:
    with noted("task_failure") as sent:
        outcome = outcome_of(ours("native.gives_up"))
    assert isinstance(outcome, Death)
    assert outcome.failure.message == "hopeless"
    assert sent == ["task_failure"]


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "said"),
    [
        ("native.retries", [1], {"args": [2]}, r"retry\(args=...\): expected none, or a message that Celery has sent"),
        ("native.retries", [1], {"kwargs": {"a": 1}}, r"retry\(kwargs=...\)"),
        ("native.retries", [1], {"queue": "other"}, r"retry\(queue=...\).*got: 'other'"),
        ("native.retries", [1], {"priority": 9}, r"retry\(priority=...\)"),
        ("native.replaces", [1], {}, "replace: expected a message that Celery has sent"),
        ("native.sends", [], {}, "'native.add': expected a broker to send it to"),
    ],
)
def test_what_needs_a_message_of_celerys_is_refused_and_never_tried_again(
    task: str, args: Any, kwargs: Any, said: str
) -> None:
    outcome = outcome_of(ours(task, *args, kwargs=kwargs))
    assert isinstance(outcome, Death)
    assert outcome.failure.type == f"{CanvasRefused.__module__}.CanvasRefused"
    with pytest.raises(CanvasRefused, match=said):
        raise CanvasRefused(outcome.failure.message)


def test_a_broker_in_this_process_alone_is_none(app: Celery) -> None:
    app.conf.broker_url = "memory://"
    outcome = outcome_of(ours("native.sends"))
    assert isinstance(outcome, Death)
    assert "memory://, which ends with the process" in outcome.failure.message


def test_a_process_is_told_once_that_it_runs_celerys_tasks() -> None:
    with noted("worker_process_init", "task_prerun") as sent:
        outcome_of(ours("native.add", 1, 2))
        outcome_of(ours("native.add", 1, 2))
    assert sent == ["worker_process_init", "task_prerun", "task_prerun"]


def test_celerys_own_errors_name_the_result_backend_that_is_missing(app: Celery) -> None:
    app.conf.broker_url = "downbeat://"
    for task in ("native.sends_chord", "native.asks"):
        outcome = outcome_of(ours(task, max_attempts=1))
        assert isinstance(outcome, Retry)
        assert outcome.failure.type == "NotImplementedError"
        assert "result backend" in outcome.failure.message


def test_a_thread_of_the_workers_asks_the_projects_own_backend(app: Celery) -> None:
    found: list[Any] = []
    app.conf.result_backend = "cache+memory://"

    def work() -> None:
        outcome_of(ours("native.add", 1, 2))
        found.append(outcome_of(ours("native.asks", "no-such-task")))

    assert get_task("native.add").source == "celery"  # found in the main thread, as a worker does
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert found == [Success(value="PENDING")]
