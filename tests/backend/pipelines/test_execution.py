"""Running a pipeline: order, results passed on, failures, attempts."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import replace

import pytest

from backend.pipelines import execution, retention, tasks
from backend.pipelines.domain import PipelineGone, StepFailed, Superseded
from backend.pipelines.models import PipelineExecution, StepExecution
from pg_queue import api as queue
from pg_queue.tasks import registry

pytestmark = pytest.mark.django_db


@contextmanager
def executing(message):
    """As a worker does: `message` is the one that this thread executes."""
    token = registry._current.set(message)
    try:
        yield message
    finally:
        registry._current.reset(token)


def message(attempt=1, identity=None):
    """Of the organization that `make_pipeline` makes pipelines for."""
    blank = replace(execution._message_of_nobody(str(uuid.uuid4())), organization_id="default")
    return replace(blank, id=identity or uuid.uuid4(), attempts=attempt, max_attempts=3)


def steps_of(run):
    return list(StepExecution.objects.filter(execution=run).values_list("state", flat=True))


@pytest.fixture
def flaky(monkeypatch):
    """A task `test.flaky` that fails until `flaky.works`; counts its calls."""

    class Flaky:
        works = False
        calls = 0

    state = Flaky()

    def run(message):
        state.calls += 1
        if not state.works:
            raise RuntimeError("not yet")
        return "done"

    info = replace(registry.get_task("noop"), name="test.flaky", run=run)
    monkeypatch.setitem(registry._registered, "test.flaky", info)
    return state


def test_steps_run_in_order_and_hand_their_results_on(make_pipeline):
    pipeline = make_pipeline(
        {"task": "demo.count_words", "args": ["three short words"]},
        {"task": "echo", "args": ["given"]},
        {"task": "pipelines.transform"},
    )
    with executing(message()) as current:
        answer = tasks.run(str(pipeline.pk))
    run = PipelineExecution.objects.get(pk=current.id)
    results = list(run.steps.values_list("result", flat=True))
    assert results[0] == 3
    assert results[1] == {"args": ["given"], "kwargs": {}}, "echo has no parameter named previous"
    assert results[2] == {"loaded": None, "transformed": 0}
    assert (run.state, run.result, answer["steps"]) == ("succeeded", results[2], 3)
    assert steps_of(run) == ["succeeded"] * 3
    assert all(step.started_at <= step.finished_at for step in run.steps.all())


def test_an_argument_named_previous_wins_over_the_result_before(make_pipeline):
    pipeline = make_pipeline({"task": "echo"}, {"task": "pipelines.transform", "kwargs": {"previous": {"rows": 7}}})
    assert tasks.run(str(pipeline.pk))["result"]["loaded"] == 7


def test_a_failing_step_fails_the_execution_and_the_rest_is_not_run(make_pipeline):
    pipeline = make_pipeline({"task": "noop"}, {"task": "demo.fail"}, {"task": "noop"})
    with executing(message()) as current, pytest.raises(StepFailed, match=r"step 2 \(demo.fail\) failed"):
        tasks.run(str(pipeline.pk))
    run = PipelineExecution.objects.get(pk=current.id)
    assert run.state == "failed"
    assert "on purpose" in run.error
    assert run.finished_at is not None
    assert steps_of(run) == ["succeeded", "failed", "not_run"]


def test_a_second_attempt_resumes_at_the_step_that_failed(make_pipeline, flaky):
    pipeline = make_pipeline({"task": "echo", "args": [1]}, {"task": "test.flaky"}, {"task": "noop"})
    first = message()
    with executing(first), pytest.raises(StepFailed):
        tasks.run(str(pipeline.pk))
    begun = StepExecution.objects.get(execution=first.id, position=1).started_at
    flaky.works = True
    with executing(replace(first, attempts=2)):
        tasks.run(str(pipeline.pk))
    run = PipelineExecution.objects.get(pk=first.id)
    assert (run.state, run.attempt, run.error) == ("succeeded", 2, "")
    assert steps_of(run) == ["succeeded"] * 3
    assert run.steps.get(position=1).started_at == begun, "what had succeeded was not run again"
    assert flaky.calls == 2


def test_a_run_executes_what_the_pipeline_was_when_it_began(make_pipeline, flaky):
    pipeline = make_pipeline({"task": "test.flaky"})
    first = message()
    with executing(first), pytest.raises(StepFailed):
        tasks.run(str(pipeline.pk))
    pipeline.steps.update(task="noop")
    flaky.works = True
    with executing(replace(first, attempts=2)):
        assert tasks.run(str(pipeline.pk))["result"] == "done"


def test_an_attempt_that_was_overtaken_changes_nothing_and_stops(make_pipeline, monkeypatch, flaky):
    pipeline = make_pipeline({"task": "test.flaky"}, {"task": "noop"})
    first = message()
    flaky.works = True
    info = registry.get_task("test.flaky")

    def overtaken(current):
        execution.begin(str(pipeline.pk), replace(first, attempts=2))
        return info.run(current)

    monkeypatch.setitem(registry._registered, "test.flaky", replace(info, run=overtaken))
    with executing(first), pytest.raises(Superseded):
        tasks.run(str(pipeline.pk))
    run = PipelineExecution.objects.get(pk=first.id)
    assert (run.attempt, run.state) == (2, "running")
    assert steps_of(run) == ["not_run", "not_run"]
    with executing(first), pytest.raises(Superseded):
        tasks.run(str(pipeline.pk))


def test_a_deleted_pipeline_is_not_tried_again(make_pipeline):
    pipeline = make_pipeline()
    identity = str(pipeline.pk)
    pipeline.delete()
    with pytest.raises(PipelineGone) as gone:
        tasks.run(identity)
    assert isinstance(gone.value, queue.GiveUp)


def test_executions_outlive_their_pipeline(make_pipeline):
    pipeline = make_pipeline({"task": "noop"})
    answer = tasks.run(str(pipeline.pk))
    pipeline.delete()
    kept = PipelineExecution.objects.get(pk=answer["execution"])
    assert (kept.pipeline_id, kept.pipeline_name) == (None, "Load")


def test_a_result_that_json_cannot_hold_fails_its_step(make_pipeline, monkeypatch):
    info = replace(registry.get_task("noop"), name="test.set", run=lambda message: {1, 2})
    monkeypatch.setitem(registry._registered, "test.set", info)
    pipeline = make_pipeline({"task": "test.set"})
    with executing(message()) as current, pytest.raises(StepFailed, match="result: expected"):
        tasks.run(str(pipeline.pk))
    assert steps_of(current.id) == ["failed"]


def test_old_executions_are_deleted_and_abandoned_ones_ended(make_pipeline):
    pipeline = make_pipeline({"task": "noop"})
    kept = tasks.run(str(pipeline.pk))["execution"]
    old = tasks.run(str(pipeline.pk))["execution"]
    abandoned = tasks.run(str(pipeline.pk))["execution"]
    rows = PipelineExecution.objects
    rows.filter(pk=old).update(started_at="2020-01-01T00:00Z")
    rows.filter(pk=abandoned).update(started_at=rows.get(pk=kept).started_at.replace(year=2000), state="running")
    assert retention.end_abandoned() == 1
    assert rows.get(pk=abandoned).error == "its message is gone: it was run by hand, or its worker vanished"
    assert tasks.clean_up(keep_days=30) == {"deleted": 2, "ended": 0}
    assert [str(pk) for pk in rows.values_list("pk", flat=True)] == [kept]
