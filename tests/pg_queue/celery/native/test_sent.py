"""Messages that Celery has sent: what Celery says of an execution is what our worker settles."""

from __future__ import annotations

import signal
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from pg_queue.celery.execution.limits import held_back, let_through
from pg_queue.celery.execution.publishing import send_chords_at_once
from pg_queue.domain import Death, Failure, NewMessage, Retry, Success
from pg_queue.errors import UnknownTask
from pg_queue.settings import queue_settings
from pg_queue.tasks import following, get_task, tasks
from pg_queue.worker.execution import outcome_of
from tests.pg_queue.celery.native.conftest import noted, ours, sent
from tests.pg_queue.celery.native.tasks import seen

pytestmark = pytest.mark.django_db


def test_a_task_sees_the_request_that_celery_has_sent() -> None:
    headers = {"parent_id": "p", "root_id": "r", "retries": 4, "tenant": "acme"}
    message = sent("native.sees", 1, headers=headers, kwargs={"a": 2})
    outcome = outcome_of(message)
    assert isinstance(outcome, Success)
    assert outcome.value == {
        "args": [1],
        "kwargs": {"a": 2},
        "id": str(message.id),
        "root_id": "r",
        "parent_id": "p",
        "retries": 4,
        "headers": {"tenant": "acme"},
        "queue": "default",
        "redelivered": False,
        "called_directly": False,
        "hostname": "host:1:2",
    }


def test_the_task_id_is_celerys_also_where_the_row_has_another() -> None:
    message = sent("native.sees", id="import-7")
    outcome = outcome_of(message)
    assert isinstance(outcome, Success)
    assert outcome.value["id"] == "import-7"
    assert uuid.UUID(str(message.id))


def test_signals_and_hooks_are_those_of_a_worker_of_celerys() -> None:
    with noted("task_prerun", "task_success", "task_failure", "task_postrun") as signals:
        outcome_of(sent("native.hooked"))
        assert signals == ["task_prerun", "task_success", "task_postrun"]
        signals.clear()
        outcome_of(sent("native.hooked", True))
        assert signals == ["task_prerun", "task_failure", "task_postrun"]
    assert seen[-2:] == [("on_failure", "ValueError"), ("after_return", "FAILURE")]


def test_what_a_task_raises_is_final_since_celery_tries_nothing_again_unasked() -> None:
    outcome = outcome_of(sent("native.fails"))
    assert isinstance(outcome, Death)
    assert (outcome.failure.type, outcome.failure.message) == ("ValueError", "no")
    assert "raise ValueError(text)" in outcome.failure.traceback


def test_ignored_leaves_nothing_and_rejected_is_dead_or_comes_back_at_once() -> None:
    assert outcome_of(sent("native.ignored")) == Success(keep=False)
    dead, back = outcome_of(sent("native.rejected")), outcome_of(sent("native.rejected", True))
    assert isinstance(dead, Death)
    assert "not mine" in dead.failure.message
    text = dead.failure.message.replace("False", "True")
    assert back == Retry(failure=Failure(type="celery.requeued", message=text), delay=timedelta())


def test_what_was_rejected_with_requeue_is_run_again_as_if_for_the_first_time() -> None:
    again = sent("native.add", 1, 2, attempts=2, error=Failure(type="celery.requeued", message="not mine"))
    assert outcome_of(again) == Success(value=3)


def test_a_result_to_be_ignored_is_kept_nowhere() -> None:
    assert outcome_of(sent("native.forgets", headers={"ignore_result": None})) == Success(keep=False)
    assert outcome_of(sent("native.add", 1, 2, headers={"ignore_result": True})) == Success(keep=False)


def test_a_result_that_only_celerys_serializer_can_keep_is_no_failure() -> None:
    assert outcome_of(sent("native.returns_instant")) == Success()


def test_what_has_expired_is_revoked_and_not_begun() -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    with noted("task_revoked", "task_prerun") as signals:
        outcome = outcome_of(sent("native.add", 1, 2, headers={"expires": past}))
    assert isinstance(outcome, Death)
    assert outcome.failure.type == "message.expired"
    assert signals == ["task_revoked"]


def test_celerys_own_tasks_run_and_nobody_can_choose_them() -> None:
    starmap = {"it": [[1, 2], [3, 4]], "task": {"task": "native.add", "args": [], "kwargs": {}, "options": {}}}
    assert outcome_of(sent("celery.starmap", kwargs=starmap)) == Success(value=[3, 7])
    assert get_task("celery.chunks").source == "celery"
    assert not [info.name for info in tasks() if info.name.startswith("celery.")]


def test_an_unknown_task_is_tried_again_and_at_last_celery_is_told() -> None:
    attempts = queue_settings().max_attempts
    with noted("task_unknown") as signals:
        first, last = outcome_of(sent("native.none")), outcome_of(sent("native.none", attempts=attempts))
    assert isinstance(first, Retry)
    assert first.failure.type == "worker.unknown_task"
    assert isinstance(last, Death)
    assert last.failure.type == "celery.exceptions.NotRegistered"
    assert signals == ["task_unknown"]
    with pytest.raises(UnknownTask):
        get_task("native.none")


def test_what_was_unknown_runs_as_if_for_the_first_time_when_it_is_known() -> None:
    message = sent("native.add", 1, 2, attempts=2, error=Failure(type="worker.unknown_task", message="add"))
    assert outcome_of(message) == Success(value=3)


def test_a_pickle_is_refused_and_says_what_to_do() -> None:
    raw = {"content-type": "application/x-python-serialize", "headers": {"task": "native.add"}, "body": "gA=="}
    outcome = outcome_of(ours("celery.raw", headers={"celery": {"raw": raw}}))
    assert isinstance(outcome, Death)
    assert "'native.add': expected a JSON message" in outcome.failure.message
    assert "got: application/x-python-serialize" in outcome.failure.message


def test_a_soft_limit_interrupts_the_tasks_body_and_nothing_that_celery_does_around_it() -> None:
    interrupted: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: interrupted.append("here"))
    try:
        with held_back():
            signal.raise_signal(signal.SIGUSR1)  # to this thread, as our children send it
            assert interrupted == []
            with let_through():
                assert interrupted == ["here"]
            signal.raise_signal(signal.SIGUSR1)  # to this thread, as our children send it
        assert interrupted == ["here"], "what came too late is dropped"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_any_result_backend_sends_for_a_chord_is_not_held() -> None:
    class Backend:
        def on_chord_part_return(self) -> bool:
            return following.hold([NewMessage(task="native.add")], in_transaction=False)

    backend = Backend()
    with following.execution() as held, following.holding():
        assert backend.on_chord_part_return()
        held.clear()
        for _ in range(2):
            send_chords_at_once(backend)
        assert not backend.on_chord_part_return()
    assert held == []
