"""What an organization's schedules can reach: its own pipelines and executions, nothing of anybody else's."""

from __future__ import annotations

import uuid

import pytest
from django_celery_beat.models import PeriodicTask

from backend.pipelines import demo, tasks
from backend.pipelines.domain import PipelineGone
from backend.pipelines.models import PipelineExecution
from pg_queue import api as queue
from pg_queue.tasks import execute

pytestmark = pytest.mark.django_db
SCHEDULES = "/api/v1/schedules/"


@pytest.fixture
def ann(make_user, as_user, acme):
    """A member of acme with every permission."""
    return as_user(make_user("ann", acme))


def run_by_schedule(client, task, **kwargs):
    """As a caller of the API would have `task` run in acme; what the worker's execution of it returned or raised."""
    body = {"name": "Mine", "task": task, "expression": "@daily", "kwargs": kwargs, "organization": "acme"}
    schedule = client.post(SCHEDULES, body, format="json")
    assert schedule.status_code == 201, schedule.data
    run = client.post(f"{SCHEDULES}{schedule.data['id']}/run/").json()["id"]
    return execute(queue.get_messages([uuid.UUID(run)])[uuid.UUID(run)])


def test_a_schedule_cannot_run_another_organizations_pipeline(ann, make_pipeline):
    theirs = make_pipeline({"task": "echo", "args": ["secret"]})
    with pytest.raises(PipelineGone, match="of organization 'acme'"):
        run_by_schedule(ann, "pipelines.run", pipeline_id=str(theirs.pk))
    assert not PipelineExecution.objects.exists()


def test_the_refusal_does_not_tell_whether_the_pipeline_exists(ann, make_pipeline):
    texts = []
    for identity in (str(make_pipeline().pk), str(uuid.uuid4())):
        with pytest.raises(PipelineGone) as gone:
            run_by_schedule(ann, "pipelines.run", pipeline_id=identity)
        texts.append(str(gone.value).replace(identity, "…"))
    assert texts[0] == texts[1]


def test_a_second_schedule_may_run_the_organizations_own_pipeline(ann, make_pipeline, acme):
    ours = make_pipeline({"task": "echo", "args": ["ours"]}, organization=acme)
    answer = run_by_schedule(ann, "pipelines.run", pipeline_id=str(ours.pk))
    assert answer["result"] == {"args": ["ours"], "kwargs": {}}
    assert PipelineExecution.objects.get().organization_id == "acme"


def test_a_message_of_no_organization_runs_no_pipeline(make_pipeline):
    message = queue.enqueue("pipelines.run", kwargs={"pipeline_id": str(make_pipeline().pk)})
    with pytest.raises(PipelineGone):
        execute(queue.get_messages([message])[message])


def test_a_clean_up_touches_the_executions_of_its_own_organization_only(ann, make_pipeline, acme):
    kept, lost = {}, []
    for organization in ("default", "acme"):
        pipeline = make_pipeline({"task": "noop"}, organization_id=organization)
        for state in ("succeeded", "running"):
            pk = tasks.run(str(pipeline.pk))["execution"]
            PipelineExecution.objects.filter(pk=pk).update(started_at="2020-01-01T00:00Z", state=state)
            (lost.append(pk) if organization == "acme" else kept.update({pk: state}))
    assert run_by_schedule(ann, "pipelines.clean_up", keep_days=1) == {"deleted": 2, "ended": 0}
    left = {str(pk): state for pk, state in PipelineExecution.objects.values_list("pk", "state")}
    assert left == kept
    assert len(lost) == 2


def test_a_clean_up_ends_what_its_own_organization_left_behind_only(ann, make_pipeline, acme):
    for organization in ("default", "acme"):
        pk = tasks.run(str(make_pipeline({"task": "noop"}, organization_id=organization).pk))["execution"]
        PipelineExecution.objects.filter(pk=pk).update(started_at="2020-01-01T00:00Z", state="running")
    assert run_by_schedule(ann, "pipelines.clean_up", keep_days=100_000) == {"deleted": 0, "ended": 1}
    assert PipelineExecution.objects.get(state="running").organization_id == "default"


def test_a_clean_up_by_hand_is_of_every_organization(make_pipeline, acme):
    for organization in ("default", "acme"):
        tasks.run(str(make_pipeline({"task": "noop"}, organization_id=organization).pk))
    PipelineExecution.objects.update(started_at="2020-01-01T00:00Z")
    assert tasks.clean_up(keep_days=1)["deleted"] == 2


def test_the_demos_switch_does_nothing_for_another_organization(ann):
    demo.seed(None, with_beat=True)
    assert run_by_schedule(ann, "demo.switch_in_beat") == {"enabled": None}
    assert not PeriodicTask.objects.get(name=str(demo.identity(demo.BEATS_FAULT))).enabled
