"""/api/v1/pipelines/: pipelines with their steps, activation, executions."""

from __future__ import annotations

import pytest

from backend.api.views.pipelines import PipelineViewSet
from backend.pipelines import tasks
from backend.pipelines.models import Pipeline
from scheduler import api

pytestmark = pytest.mark.django_db
URL = "/api/v1/pipelines/"
LONG = " ".join([*(",".join(map(str, numbers)) for numbers in (range(60), range(24), range(1, 32))), "*", "*"])
STEPS = [{"task": "echo", "args": [1]}, {"task": "noop", "kwargs": {}}]
BODY = {"name": "Load", "expression": "0 3 * * *", "timezone": "Europe/Berlin", "steps": STEPS}


def test_create_makes_pipeline_steps_and_schedule(rest):
    created = rest.post(URL, BODY, format="json")
    assert created.status_code == 201, created.data
    assert created.json()["steps"] == [
        {"task": "echo", "args": [1], "kwargs": {}},
        {"task": "noop", "args": [], "kwargs": {}},
    ]
    schedule = rest.get(f"/api/v1/schedules/{created.data['id']}/").json()
    assert (schedule["name"], schedule["task"], schedule["timezone"]) == ("Load", "pipelines.run", "Europe/Berlin")
    assert schedule["kwargs"] == {"pipeline_id": created.data["id"]}


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"expression": "99 * * * *"}, "expression", "99"),
        ({"expression": "0 0 30 2 *"}, "expression", "0 0 30 2 *"),
        ({"timezone": "Nowhere"}, "timezone", "Nowhere"),
        ({"name": " "}, "name", "1 to 255"),
        ({"steps": "echo"}, "steps", "a list of objects"),
        ({"active": 3}, "active", "true or false"),
        ({"owner": "me"}, "owner", "fields among"),
    ],
)
def test_bad_input_is_refused_by_field(rest, change, field, words):
    answer = rest.post(URL, {**BODY, **change}, format="json")
    assert answer.status_code == 400
    assert words in answer.json()[field][0]
    assert not Pipeline.objects.exists()
    assert not api.PgPeriodicSchedule.objects.exists()


@pytest.mark.parametrize(
    ("step", "field"), [({"task": "nope"}, "task"), ({"task": "echo", "args": {}}, "args"), ({"tusk": "echo"}, "tusk")]
)
def test_a_bad_step_is_named_by_its_place(rest, step, field):
    answer = rest.post(URL, {**BODY, "steps": [{"task": "noop"}, step]}, format="json")
    assert answer.status_code == 400
    first, second = (
        answer.json()["steps"] if isinstance(answer.json()["steps"], list) else ({}, answer.json()["steps"]["1"])
    )
    assert first == {}
    assert second[field][0].startswith("expected ")


def test_a_name_that_is_taken_is_refused_at_its_field(rest):
    rest.post(URL, BODY, format="json")
    answer = rest.post(URL, BODY, format="json")
    assert answer.status_code == 400
    assert answer.json() == {"name": ["expected a name that no other pipeline of the organization has, got: 'Load'"]}
    other = rest.post(URL, {**BODY, "name": "Other"}, format="json").json()
    assert list(rest.patch(f"{URL}{other['id']}/", {"name": "Load"}, format="json").json()) == ["name"]
    assert list(rest.patch(f"/api/v1/schedules/{other['id']}/", {"name": "Load"}, format="json").json()) == ["name"]


def test_an_expression_of_more_than_255_characters_is_kept_whole_on_both_sides(rest):
    url = f"{URL}{rest.post(URL, {**BODY, 'expression': LONG}, format='json').data['id']}/"
    assert rest.get(url).json()["expression"] == LONG
    assert rest.put(url, rest.get(url).json(), format="json").status_code == 200
    schedule = url.replace("pipelines", "schedules")
    assert rest.patch(schedule, {"expression": f"{LONG[:-1]}0-6"}, format="json").status_code == 200
    assert rest.get(url).json()["expression"] == f"{LONG[:-1]}0-6"


def test_steps_are_replaced_as_a_whole_and_kept_when_not_named(rest):
    url = f"{URL}{rest.post(URL, BODY, format='json').data['id']}/"
    assert len(rest.patch(url, {"name": "Other"}, format="json").json()["steps"]) == 2
    assert [s["task"] for s in rest.patch(url, {"steps": [{"task": "noop"}]}, format="json").json()["steps"]] == [
        "noop"
    ]


def test_deactivate_and_activate_pause_and_resume_the_schedule(rest):
    pk = rest.post(URL, BODY, format="json").data["id"]
    assert rest.post(f"{URL}{pk}/deactivate/").json()["active"] is False
    assert not api.get_schedule(pk).enabled
    assert rest.post(f"{URL}{pk}/activate/").json()["active"] is True
    assert api.get_schedule(pk).enabled


def test_pausing_the_schedule_deactivates_the_pipeline(rest):
    pk = rest.post(URL, BODY, format="json").data["id"]
    rest.post(f"/api/v1/schedules/{pk}/pause/", {"reason": "x"}, format="json")
    assert rest.get(f"{URL}{pk}/").json()["active"] is False


def test_pause_with_a_reason_and_resume(rest):
    pk = rest.post(URL, BODY, format="json").data["id"]
    paused = rest.post(f"{URL}{pk}/pause/", {"reason": "holiday"}, format="json")
    assert (paused.status_code, paused.data["active"], paused.data["name"]) == (200, False, "Load")
    assert api.get_schedule(pk).pause_note == "holiday"
    assert rest.get(f"{URL}{pk}/next/").json()["results"] == []
    resumed = rest.post(f"{URL}{pk}/resume/")
    assert (resumed.status_code, resumed.data["active"]) == (200, True)
    assert rest.post(f"{URL}{pk}/pause/", {"why": "x"}, format="json").json().keys() == {"why"}


@pytest.mark.parametrize("path", ["", "activate/"])
def test_a_change_undoes_nothing_that_was_changed_since_the_pipeline_was_read(rest, monkeypatch, path):
    pk = rest.post(URL, {**BODY, "active": False}, format="json").data["id"]
    find = PipelineViewSet.get_object

    def find_early(view):
        found = find(view)
        api.update_schedule(pk, timezone="Asia/Tokyo")
        return found

    monkeypatch.setattr(PipelineViewSet, "get_object", find_early)
    answer = rest.post(f"{URL}{pk}/{path}") if path else rest.patch(f"{URL}{pk}/", {"active": True}, format="json")
    assert (answer.data["active"], answer.data["timezone"]) == (True, "Asia/Tokyo")
    assert api.get_schedule(pk).timezone == "Asia/Tokyo"


def test_run_now_next_and_runs_are_its_schedules(rest):
    pk = rest.post(URL, BODY, format="json").data["id"]
    run = rest.post(f"{URL}{pk}/run/")
    assert (run.status_code, run.data["origin"], run.data["schedule"]) == (201, "manual", pk)
    assert rest.get(f"/api/v1/messages/{run.data['id']}/").json()["kwargs"] == {"pipeline_id": pk}
    assert [r["id"] for r in rest.get(f"{URL}{pk}/runs/").json()["results"]] == [run.data["id"]]
    assert rest.get(f"{URL}{pk}/runs/?state=failed").json()["results"] == []
    assert list(rest.get(f"{URL}{pk}/runs/?stat=failed").json()) == ["stat"]
    upcoming = rest.get(f"{URL}{pk}/next/?count=3").json()
    assert (upcoming["timezone"], len(upcoming["results"])) == ("Europe/Berlin", 3)
    assert upcoming == rest.get(f"/api/v1/schedules/{pk}/next/?count=3").json()


def test_without_its_schedule_a_pipeline_says_what_to_do_and_keeps_its_runs(rest):
    pk = rest.post(URL, BODY, format="json").data["id"]
    run = rest.post(f"{URL}{pk}/run/").data["id"]
    api.delete_schedule(pk)
    for method, path in (("post", "pause"), ("post", "resume"), ("post", "run"), ("get", "next")):
        answer = getattr(rest, method)(f"{URL}{pk}/{path}/")
        assert answer.status_code == 400
        assert "save the pipeline to make a new one" in answer.json()["non_field_errors"][0]
    assert run in [r["id"] for r in rest.get(f"{URL}{pk}/runs/").json()["results"]]


def test_delete_takes_the_schedule_along(rest):
    pk = rest.post(URL, BODY, format="json").data["id"]
    assert rest.delete(f"{URL}{pk}/").status_code == 204
    assert rest.get(f"/api/v1/schedules/{pk}/").status_code == 404


def test_executions_show_each_steps_state_time_and_error(rest):
    body = {**BODY, "steps": [{"task": "noop"}, {"task": "demo.fail"}, {"task": "noop"}]}
    pk = rest.post(URL, body, format="json").data["id"]
    with pytest.raises(Exception, match="step 2"):
        tasks.run(pk)
    (run,) = rest.get(f"{URL}{pk}/executions/").json()["results"]
    assert (run["state"], run["pipeline"]) == ("failed", pk)
    assert [step["state"] for step in run["steps"]] == ["succeeded", "failed", "not_run"]
    assert run["steps"][0]["finished_at"] is not None
    assert "on purpose" in run["steps"][1]["error"]
    assert rest.get(f"{URL}{pk}/executions/?state=succeeded").json()["results"] == []


def test_lists_cost_the_same_queries_however_many_rows(rest, make_pipeline, django_assert_max_num_queries):
    for n in range(10):
        pipeline = make_pipeline(*STEPS, name=f"n{n}")
        tasks.run(str(pipeline.pk))
    with django_assert_max_num_queries(4):
        assert len(rest.get(URL).json()["results"]) == 10
    for _ in range(5):
        tasks.run(str(pipeline.pk))
    with django_assert_max_num_queries(6):
        rest.get(f"{URL}{pipeline.pk}/executions/")


def test_filters(rest, make_pipeline):
    make_pipeline(name="Alpha")
    make_pipeline(name="Beta", active=False)
    assert [p["name"] for p in rest.get(f"{URL}?active=false").json()["results"]] == ["Beta"]
    assert [p["name"] for p in rest.get(f"{URL}?name=alp").json()["results"]] == ["Alpha"]
