"""A message that Celery has sent, whose execution was cut off: Celery's rules for a lost worker."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, Task

from pg_queue.domain import Death, Failure, Retry, Success
from pg_queue.settings import queue_settings
from pg_queue.tasks import get_task
from pg_queue.worker.execution import outcome_of
from tests.pg_queue.celery.native.conftest import lost, noted, sent
from tests.pg_queue.celery.native.tasks import seen

pytestmark = pytest.mark.django_db

WORKER_LOST = "billiard.exceptions.WorkerLostError"


@pytest.fixture
def fails(app: Celery) -> Any:
    """The task `native.fails` of this app, with Celery's defaults."""
    return app.tasks["native.fails"]


def set_up(task: Task[..., Any], **attributes: Any) -> None:
    for name, value in attributes.items():
        setattr(task, name, value)


@pytest.mark.parametrize("kind", ["worker.exited", "worker.vanished", "worker.stopped"])
def test_without_acks_late_what_has_begun_is_never_begun_again(kind: str) -> None:
    with noted("task_failure", "task_prerun") as signals:
        outcome = outcome_of(sent("native.fails", **lost(kind, "killed by the kernel")))
    assert outcome == Death(failure=Failure(type=WORKER_LOST, message=f"{kind}: killed by the kernel"))
    assert (seen, signals) == ([], ["task_failure"])


@pytest.mark.parametrize(
    ("kind", "attributes", "runs"),
    [
        ("worker.vanished", {}, True),
        ("worker.stopped", {}, True),
        ("worker.exited", {}, False),
        ("worker.exited", {"reject_on_worker_lost": True}, True),
        ("worker.time_limit", {"acks_on_timeout": True}, False),
        ("worker.time_limit", {"acks_on_timeout": False}, True),
    ],
)
def test_with_acks_late_it_is_run_again_where_celery_would(
    fails: Task[..., Any], kind: str, attributes: Any, runs: bool
) -> None:
    set_up(fails, acks_late=True, time_limit=3, **attributes)
    outcome_of(sent("native.fails", **lost(kind)))
    assert bool(seen) is runs


def test_what_takes_every_worker_down_is_given_up_at_last(fails: Task[..., Any]) -> None:
    set_up(fails, acks_late=True, reject_on_worker_lost=True)
    attempts = queue_settings().max_attempts + 1
    for kind in ("worker.exited", "worker.vanished"):
        outcome = outcome_of(sent("native.fails", **{**lost(kind), "attempts": attempts}))
        assert isinstance(outcome, Death)
        assert outcome.failure.type == WORKER_LOST
    assert seen == []


def test_a_hard_limit_is_celerys_own_error_with_its_hooks() -> None:
    with noted("task_failure") as signals:
        outcome = outcome_of(sent("native.hooked", headers={"timelimit": [2, None]}, **lost("worker.time_limit")))
    assert isinstance(outcome, Death)
    assert outcome.failure.type == "billiard.exceptions.TimeLimitExceeded"
    assert "2" in outcome.failure.message
    assert seen == [("on_failure", "TimeLimitExceeded"), ("after_return", "FAILURE")]
    assert signals == ["task_failure"]


def test_a_task_that_ends_its_process_has_lost_its_worker(app: Celery) -> None:
    outcome = outcome_of(sent("native.exits"))
    assert isinstance(outcome, Death)
    assert outcome.failure == Failure(type=WORKER_LOST, message="the task raised SystemExit: 3")
    set_up(app.tasks["native.exits"], acks_late=True, reject_on_worker_lost=True)
    again = outcome_of(sent("native.exits"))
    assert isinstance(again, Retry)
    assert again.failure.type == "celery.requeued"


def test_what_was_claimed_once_is_no_loss() -> None:
    assert outcome_of(sent("native.add", 1, 2)) == Success(value=3)


def test_the_limit_that_ended_an_execution_does_not_end_the_one_that_tells_of_it() -> None:
    info = get_task("native.add")
    assert info.limits_of(sent("native.add", headers={"timelimit": [0.5, 0.2]})) == (0.5, 0.2)
    for limits in (
        info.limits_of(sent("native.add", headers={"timelimit": [0.5, 0.2]}, **lost("worker.time_limit"))),
        get_task("native.limited").limits_of(sent("native.limited", **lost("worker.exited")))[1:],
    ):
        assert all(limit is not None and limit > 20 for limit in limits)


def test_what_a_worker_of_celerys_had_only_fetched_is_begun() -> None:
    assert outcome_of(sent("native.add", 1, 2, attempts=2)) == Success(value=3), "it was given back"
    text = "attempt 1: the lease of worker host:1:celery ran out"
    assert outcome_of(sent("native.add", 1, 2, **lost("worker.vanished", text))) == Success(value=3)
