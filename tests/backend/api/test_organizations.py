"""Organizations are isolated from each other, and every action asks for its permission."""

from __future__ import annotations

import pytest

from backend.pipelines import tasks
from backend.pipelines.models import Pipeline
from pg_queue import api as queue
from scheduler import api

pytestmark = pytest.mark.django_db
SCHEDULES, PIPELINES = "/api/v1/schedules/", "/api/v1/pipelines/"
BODY = {"name": "Nightly", "task": "echo", "expression": "0 3 * * *"}


@pytest.fixture
def ann(make_user, as_user, default):
    """A member of `default` with every permission."""
    return as_user(make_user("ann", default))


@pytest.fixture
def theirs(make_schedule, acme):
    return make_schedule(name="Theirs", organization_id="acme")


def test_a_list_without_an_organization_is_of_the_default_one(rest, ann, make_schedule, theirs):
    mine = make_schedule()
    for client in (rest, ann):
        assert [row["id"] for row in client.get(SCHEDULES).json()["results"]] == [str(mine.pk)]
    assert [row["id"] for row in rest.get(f"{SCHEDULES}?organization=acme").json()["results"]] == [str(theirs.pk)]


@pytest.mark.parametrize("slug", ["acme", "no-such", ""])
def test_naming_an_organization_that_one_may_not_see_is_forbidden_without_telling_whether_it_exists(ann, acme, slug):
    read = ann.get(f"{SCHEDULES}?organization={slug}") if slug else ann.get(f"{SCHEDULES}?organization=acme")
    written = ann.post(SCHEDULES, {**BODY, "organization": slug or "acme"}, format="json")
    assert (read.status_code, written.status_code) == (403, 403)
    assert "one that you are a member of" in read.json()["detail"]
    assert not api.PgPeriodicSchedule.objects.exists()


@pytest.mark.parametrize("path", ["", "next/", "runs/"])
def test_another_organizations_schedule_cannot_be_read(ann, theirs, path):
    assert ann.get(f"{SCHEDULES}{theirs.pk}/{path}").status_code == 404


@pytest.mark.parametrize("path", ["pause/", "resume/", "run/"])
def test_another_organizations_schedule_cannot_be_acted_on(ann, theirs, path):
    assert ann.post(f"{SCHEDULES}{theirs.pk}/{path}").status_code == 404
    assert not api.ScheduleRun.objects.exists()


def test_another_organizations_schedule_cannot_be_changed_or_deleted(ann, theirs):
    url = f"{SCHEDULES}{theirs.pk}/"
    assert ann.patch(url, {"name": "Mine"}, format="json").status_code == 404
    assert ann.put(url, BODY, format="json").status_code == 404
    assert ann.delete(url).status_code == 404
    assert api.get_schedule(theirs.pk).pipeline_name == "Theirs"


def test_another_organizations_runs_and_messages_cannot_be_read(ann, rest, theirs):
    run = api.run_schedule(theirs.pk)
    assert ann.get("/api/v1/runs/").json()["results"] == []
    for path in (f"/api/v1/runs/{run.pk}/", f"/api/v1/messages/{run.pk}/"):
        assert ann.get(path).status_code == 404
        assert rest.get(path).status_code == 200
    assert ann.get(f"/api/v1/runs/?schedule={theirs.pk}").json()["results"] == []


def test_a_message_of_nobody_is_for_superusers(ann, rest):
    identity = queue.enqueue("noop")
    assert ann.get(f"/api/v1/messages/{identity}/").status_code == 404
    assert rest.get(f"/api/v1/messages/{identity}/").status_code == 200


def test_another_organizations_pipeline_cannot_be_seen_or_touched(ann, make_pipeline, acme):
    pipeline = make_pipeline({"task": "noop"}, organization=acme)
    tasks.run(str(pipeline.pk))
    url = f"{PIPELINES}{pipeline.pk}/"
    assert ann.get(PIPELINES).json()["results"] == []
    assert {ann.get(url).status_code, ann.get(f"{url}executions/").status_code} == {404}
    assert {ann.get(f"{url}{path}/").status_code for path in ("next", "runs")} == {404}
    for path in ("deactivate", "pause", "resume", "run"):
        assert ann.post(f"{url}{path}/").status_code == 404
    assert ann.delete(url).status_code == 404
    assert not api.ScheduleRun.objects.exists()
    assert ann.patch(url, {"name": "Mine"}, format="json").status_code == 404
    assert Pipeline.objects.get().active


def test_a_member_acts_in_the_organization_that_is_named(make_user, as_user, acme):
    bob = as_user(make_user("bob", acme))
    created = bob.post(SCHEDULES, {**BODY, "organization": "acme"}, format="json")
    assert (created.status_code, created.data["organization"]) == (201, "acme")
    assert bob.get(f"{SCHEDULES}{created.data['id']}/").status_code == 200
    assert bob.post(f"{SCHEDULES}?organization=acme", BODY, format="json").data["organization"] == "acme"
    assert bob.get(SCHEDULES).status_code == 403, "default is what a request means that names none"
    created = bob.post(f"{PIPELINES}?organization=acme", {"name": "P", "expression": "@daily"}, format="json")
    assert created.data["organization"] == "acme"
    assert api.get_schedule(created.data["id"]).organization_id == "acme"


def test_body_and_query_may_not_name_different_organizations(rest, acme):
    answer = rest.post(f"{SCHEDULES}?organization=default", {**BODY, "organization": "acme"}, format="json")
    assert answer.status_code == 400
    assert list(answer.json()) == ["organization"]


def test_a_detail_in_the_wrong_organization_is_not_found(rest, theirs):
    assert rest.get(f"{SCHEDULES}{theirs.pk}/?organization=default").status_code == 404
    assert rest.get(f"{SCHEDULES}{theirs.pk}/?organization=acme").status_code == 200


ACTIONS = [
    ("get", SCHEDULES, "scheduler.view_pgperiodicschedule"),
    ("get", SCHEDULES + "{s}/", "scheduler.view_pgperiodicschedule"),
    ("get", SCHEDULES + "{s}/next/", "scheduler.view_pgperiodicschedule"),
    ("post", SCHEDULES, "scheduler.add_pgperiodicschedule"),
    ("patch", SCHEDULES + "{s}/", "scheduler.change_pgperiodicschedule"),
    ("post", SCHEDULES + "{s}/pause/", "scheduler.change_pgperiodicschedule"),
    ("post", SCHEDULES + "{s}/resume/", "scheduler.change_pgperiodicschedule"),
    ("post", SCHEDULES + "{s}/run/", "scheduler.change_pgperiodicschedule"),
    ("delete", SCHEDULES + "{s}/", "scheduler.delete_pgperiodicschedule"),
    ("get", "/api/v1/runs/", "scheduler.view_schedulerun"),
    ("get", "/api/v1/tasks/", "scheduler.view_pgperiodicschedule"),
    ("get", PIPELINES, "pipelines.view_pipeline"),
    ("post", PIPELINES, "pipelines.add_pipeline"),
    ("post", PIPELINES + "{p}/deactivate/", "pipelines.change_pipeline"),
    ("post", PIPELINES + "{p}/pause/", "pipelines.change_pipeline"),
    ("post", PIPELINES + "{p}/resume/", "pipelines.change_pipeline"),
    ("post", PIPELINES + "{p}/run/", "pipelines.change_pipeline"),
    ("get", PIPELINES + "{p}/next/", "pipelines.view_pipeline"),
    ("delete", PIPELINES + "{p}/", "pipelines.delete_pipeline"),
    ("get", "/api/v1/messages/{m}/", "pg_queue.view_message"),
]


@pytest.mark.parametrize(("method", "path", "permission"), ACTIONS)
def test_each_action_asks_for_its_permission(
    make_user, as_user, default, make_schedule, make_pipeline, method, path, permission
):
    schedule, pipeline = make_schedule(), make_pipeline()
    url = path.format(s=schedule.pk, p=pipeline.pk, m=queue.enqueue("noop", organization_id="default"))
    body = {} if method in {"get", "delete"} else {"name": "New", "expression": "@daily", "task": "noop"}
    body = {} if path.endswith(("pause/", "resume/", "run/", "deactivate/")) else body
    body.pop("task", None) if path == PIPELINES else None
    without = getattr(as_user(make_user("without", default, permissions=[])), method)(url, body, format="json")
    assert without.status_code == 403
    allowed = as_user(make_user("allowed", default, permissions=[permission]))
    assert getattr(allowed, method)(url, body, format="json").status_code in {200, 201, 204}


@pytest.mark.parametrize(
    ("path", "permission"), [(SCHEDULES, "scheduler.view_pgperiodicschedule"), (PIPELINES, "pipelines.view_pipeline")]
)
def test_runs_of_a_schedule_or_a_pipeline_ask_for_both_permissions(
    make_user, as_user, default, make_pipeline, path, permission
):
    url = f"{path}{make_pipeline().pk}/runs/"
    one = make_user("one", default, permissions=[permission])
    both = make_user("both", default, permissions=[permission, "scheduler.view_schedulerun"])
    assert as_user(one).get(url).status_code == 403
    assert as_user(both).get(url).status_code == 200
