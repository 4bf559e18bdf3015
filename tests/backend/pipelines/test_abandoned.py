"""Executions whose message failed, vanished or ended without them are set right; and replayed ones run again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import DatabaseError
from django.test import override_settings

from backend.pipelines import execution, messages, retention, tasks
from backend.pipelines.domain import Superseded
from backend.pipelines.models import PipelineExecution, StepExecution
from pg_queue import api as queue
from pg_queue.domain import Death, Failure, Settlement, Success
from tests.backend.pipelines.test_execution import executing

pytestmark = pytest.mark.django_db

LOST = Failure(type="worker.lost", message="the worker died")
LEASE = timedelta(seconds=60)


@pytest.fixture
def pipeline(make_pipeline):
    return make_pipeline({"task": "noop"})


def claim(using="default"):
    (one,) = queue.store(using).claim(queues=["default"], limit=1, lease=LEASE, worker="w")
    return one


def settle(one, outcome):
    queue.store().settle([Settlement(message_id=one.message.id, token=one.token, outcome=outcome)])


def begun(pipeline, using="default"):
    """A claimed run of the pipeline whose first step runs, and its row."""
    queue.enqueue("pipelines.run", [str(pipeline.pk)], organization_id="default", max_attempts=1, using=using)
    held = claim(using)
    row = execution.begin(str(pipeline.pk), held.message)
    StepExecution.objects.filter(execution=row).update(state="running")
    return held, row


def states(row):
    row.refresh_from_db()
    return row.state, row.error, list(row.steps.values_list("state", "error"))


def test_one_whose_message_failed_says_so_at_once_and_its_step_too(pipeline):
    held, row = begun(pipeline)
    settle(held, Death(failure=LOST))
    assert retention.end_abandoned() == 1
    error = "worker.lost: the worker died"
    assert states(row) == ("failed", error, [("failed", error)])
    assert row.finished_at is not None
    assert retention.end_abandoned() == 0


def test_one_that_was_cancelled_says_why(pipeline):
    held, row = begun(pipeline)
    queue.cancel([held.message.id], reason="purged by root: too many")
    assert retention.end_abandoned() == 1
    assert states(row)[0] == "failed"
    assert "purged by root: too many" in row.error


def test_one_whose_message_ended_without_it_is_ended(pipeline):
    held, row = begun(pipeline)
    settle(held, Success())
    assert retention.end_abandoned() == 1
    assert states(row)[:2] == ("failed", "its message ended without it: succeeded")


def test_one_whose_message_is_gone_is_ended_when_it_cannot_be_running_by_hand(pipeline):
    row = execution.begin(str(pipeline.pk), execution._message_of_nobody(str(pipeline.pk)))
    assert retention.end_abandoned() == 0
    PipelineExecution.objects.filter(pk=row.pk).update(started_at="2020-01-01T00:00Z")
    assert retention.end_abandoned() == 1
    assert "its message is gone" in states(row)[1]


def test_one_that_runs_or_waits_for_its_next_attempt_is_left_alone(pipeline):
    held, row = begun(pipeline)
    PipelineExecution.objects.filter(pk=row.pk).update(started_at="2020-01-01T00:00Z")
    assert retention.end_abandoned() == 0
    queue.store().release([(held.message.id, held.token)])
    assert retention.end_abandoned() == 0
    assert states(row)[0] == "running"


@override_settings(PG_QUEUE={"STORES": {"default": {}, "far": {"NAMESPACE": "far"}}})
def test_one_that_another_store_executes_is_left_alone(pipeline):
    _, row = begun(pipeline, using="far")
    PipelineExecution.objects.filter(pk=row.pk).update(started_at="2020-01-01T00:00Z")
    assert retention.end_abandoned() == 0
    assert states(row)[0] == "running"


@override_settings(PG_QUEUE={"STORES": {"default": {}, "far": {"NAMESPACE": "far"}}})
def test_while_a_store_does_not_answer_only_those_that_others_know_are_ended(pipeline, monkeypatch, caplog):
    (_, elsewhere), (held, here) = begun(pipeline, using="far"), begun(pipeline)
    PipelineExecution.objects.update(started_at="2020-01-01T00:00Z")
    settle(held, Death(failure=LOST))
    ask = queue.get_messages

    def away(ids, *, using="default"):
        if using == "far":
            raise queue.StoreUnavailable("nobody listens")
        return ask(ids, using=using)

    monkeypatch.setattr(queue, "get_messages", away)
    assert retention.end_abandoned() == 1
    assert (states(elsewhere)[0], states(here)[0]) == ("running", "failed")
    assert "pipelines.store_not_asked store=far" in caplog.text


def test_what_has_just_finished_is_not_overwritten(pipeline, monkeypatch):
    held, row = begun(pipeline)
    settle(held, Death(failure=LOST))
    find = messages.find_messages

    def finish_meanwhile(ids):
        found = find(ids)
        execution._settle(row, execution.ExecutionState.SUCCEEDED, result="done")
        return found

    monkeypatch.setattr(retention, "find_messages", finish_meanwhile)
    assert retention.end_abandoned() == 0
    assert states(row)[:2] == ("succeeded", "")


def test_what_a_later_attempt_has_just_taken_over_is_not_ended(pipeline, monkeypatch):
    held, row = begun(pipeline)
    settle(held, Death(failure=LOST))
    find = messages.find_messages

    def replay_meanwhile(ids):
        found = find(ids)
        queue.replay([row.pk])
        execution.begin(str(pipeline.pk), claim().message)
        return found

    monkeypatch.setattr(retention, "find_messages", replay_meanwhile)
    assert retention.end_abandoned() == 0
    assert states(row)[0] == "running"


def test_one_that_cannot_be_ended_stops_no_other(pipeline, monkeypatch, caplog):
    (first, bad), (second, good) = begun(pipeline), begun(pipeline)
    for held in (first, second):
        settle(held, Death(failure=LOST))
    end = retention._end

    def refuse_bad(one, reason):
        if one.pk == bad.pk:
            raise DatabaseError("no")
        return end(one, reason)

    monkeypatch.setattr(retention, "_end", refuse_bad)
    assert retention.end_abandoned() == 1
    assert (states(bad)[0], states(good)[0]) == ("running", "failed")
    assert f"pipelines.not_ended execution={bad.pk}" in caplog.text


def test_many_that_run_hide_none_behind_them(pipeline, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    for _ in range(3):
        begun(pipeline)
    held, row = begun(pipeline)
    settle(held, Death(failure=LOST))
    assert retention.end_abandoned() == 1
    assert states(row)[0] == "failed"


def test_every_reaper_does_it():
    assert "end_abandoned" in [duty.name for duty in queue.all_duties()]


def test_a_dead_letter_that_is_replayed_runs_again_on_its_first_attempt(pipeline):
    held, row = begun(pipeline)
    settle(held, Death(failure=LOST))
    retention.end_abandoned()
    queue.replay([row.pk])
    with executing(claim().message) as current:
        assert current.attempts == 1
        tasks.run(str(pipeline.pk))
    assert states(row)[:2] == ("succeeded", "")


def test_what_ran_before_a_replay_changes_nothing_afterwards(pipeline):
    held, row = begun(pipeline)
    settle(held, Death(failure=LOST))
    queue.replay([row.pk])
    execution.begin(str(pipeline.pk), claim().message)
    with pytest.raises(Superseded):
        execution._settle(row, execution.ExecutionState.SUCCEEDED)
    earlier = replace(held.message, started_at=held.message.started_at - timedelta(seconds=1))
    with pytest.raises(Superseded):
        execution.begin(str(pipeline.pk), earlier)
