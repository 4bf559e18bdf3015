"""The admin of pipelines, executions and organizations."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from backend.pipelines import demo, tasks
from backend.pipelines.admin import PipelineAdmin
from backend.pipelines.models import Pipeline, PipelineExecution
from scheduler import api

pytestmark = pytest.mark.django_db
LIST = "/admin/pipelines/pipeline/"
STEPS = {
    "steps-TOTAL_FORMS": "2",
    "steps-INITIAL_FORMS": "0",
    "steps-0-position": "1",
    "steps-0-task": "echo",
    "steps-0-args": "[1]",
    "steps-0-kwargs": "",
    "steps-1-position": "2",
    "steps-1-task": "noop",
}
FORM = {
    "name": "Load",
    "organization": "default",
    "active": "on",
    "expression": "0 3 * * *",
    "timezone": "Europe/Berlin",
    "dialect": "unix",
    **STEPS,
}


def text(response):
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def page_of(pipeline):
    return reverse("admin:pipelines_pipeline_change", args=[pipeline.pk])


def test_create_with_steps(browser):
    answer = browser.post(f"{LIST}add/", FORM)
    assert answer.status_code == 302, answer.context["errors"]
    pipeline = Pipeline.objects.get()
    assert list(pipeline.steps.values_list("position", "task", "args", "kwargs")) == [
        (1, "echo", [1], {}),
        (2, "noop", [], {}),
    ]
    assert api.get_schedule(pipeline.pk).timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"expression": "0 0 30 2 *"}, "expression"),
        ({"expression": "99 * * * *"}, "expression"),
        ({"timezone": "Mars"}, "timezone"),
        ({"name": ""}, "name"),
    ],
)
def test_bad_input_is_shown_at_its_field(browser, change, field):
    answer = browser.post(f"{LIST}add/", {**FORM, **change})
    assert list(answer.context["adminform"].form.errors) == [field]
    assert not Pipeline.objects.exists()
    assert not api.PgPeriodicSchedule.objects.exists()


def test_a_name_that_is_taken_is_shown_at_its_field(browser, make_pipeline):
    make_pipeline(name="Load")
    answer = browser.post(f"{LIST}add/", FORM)
    assert "no other pipeline of the organization has" in answer.context["adminform"].form.errors["name"][0]


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"steps-0-task": "nope"}, "task"),
        ({"steps-0-args": "{}"}, "args"),
        ({"steps-0-args": "[" * 100_000}, "args"),
        ({"steps-0-args": '["\\ud800"]'}, "args"),
    ],
)
def test_a_bad_step_is_shown_at_its_field(browser, step, field):
    answer = browser.post(f"{LIST}add/", {**FORM, **step})
    formset = answer.context["inline_admin_formsets"][0].formset
    assert list(formset.errors[0]) == [field]
    assert not Pipeline.objects.exists()


def test_edit_reaches_the_schedule_and_steps_can_change_places(browser):
    browser.post(f"{LIST}add/", FORM)
    pipeline = Pipeline.objects.get()
    first, second = pipeline.steps.all()
    form = {
        **FORM,
        "expression": "@hourly",
        "steps-INITIAL_FORMS": "2",
        "steps-0-id": first.pk,
        "steps-0-position": "2",
        "steps-1-id": second.pk,
        "steps-1-position": "1",
    }
    form.pop("active")  # an existing one is paused and resumed, not saved so
    answer = browser.post(page_of(pipeline), form)
    assert answer.status_code == 302, answer.context["errors"]
    assert list(pipeline.steps.values_list("task", flat=True)) == ["noop", "echo"]
    schedule = api.get_schedule(pipeline.pk)
    assert (schedule.cron_string, schedule.enabled) == ("@hourly", True)


def test_its_page_shows_the_next_ten_runs_and_the_last_ones_with_four_instants(browser, make_pipeline):
    pipeline = make_pipeline({"task": "noop"}, timezone="Asia/Tokyo")
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    runs = [
        api.ScheduleRun.objects.create(
            id=uuid.uuid4(), schedule_id=pipeline.pk, organization_id="default", scheduled_for=noon + day, firer="pg",
            state="succeeded", fired_at=noon + day + timedelta(milliseconds=5),
            started_at=noon + day + timedelta(seconds=1), finished_at=noon + day + timedelta(seconds=2),
            result={"steps": 1},
        )
        for day in (timedelta(0), timedelta(days=1))
    ]  # fmt: skip
    PipelineExecution.objects.create(
        id=runs[0].pk, pipeline=pipeline, pipeline_name="Load", organization_id="default", state="succeeded"
    )
    page = browser.get(page_of(pipeline))
    shown = text(page)
    assert len(re.findall("03:00:00 JST", shown)) == 10
    for part in (
        "2026-03-01 12:00:00",
        "12:00:00.005",
        "12:00:01.000",
        "12:00:02.000",
        "succeeded",
        "&quot;steps&quot;: 1",
    ):
        assert part in shown
    for button in ("Run now", "Pause…"):
        assert button in shown
    links = page.content.decode()
    for name, run in (("pipelines_pipelineexecution", runs[0]), ("scheduler_schedulerun", runs[1])):
        assert reverse(f"admin:{name}_change", args=[run.pk]) in links, (
            "the execution, which has the steps, if there is one"
        )


def test_pause_asks_for_a_reason_then_resume_and_run_now(browser, make_pipeline):
    pipeline = make_pipeline()

    def act(name, **form):
        answer = browser.post(reverse(f"admin:pipelines_{name}", args=[pipeline.pk]), form, follow=True)
        assert answer.redirect_chain == [(page_of(pipeline), 302)]
        return text(answer)

    asked = text(browser.get(reverse("admin:pipelines_pause", args=[pipeline.pk])))
    assert "Pause Load" in asked
    assert "Reason" in asked
    assert Pipeline.objects.get().active, "asking changes nothing"
    shown = act("pause", reason="audit & rest")
    for part in ("Paused Load.", "audit &amp; rest", "Nothing will run until this pipeline is resumed.", "Resume"):
        assert part in shown
    assert (Pipeline.objects.get().active, api.get_schedule(pipeline.pk).pause_note) == (False, "audit & rest")
    assert "Resumed Load" in act("resume")
    assert Pipeline.objects.get().active
    assert "Started a run of Load now." in act("run")
    assert api.ScheduleRun.objects.get().origin == "manual"
    assert LogEntry.objects.filter(content_type__model="pipeline").count() == 3
    for name in ("resume", "run"):
        assert browser.get(reverse(f"admin:pipelines_{name}", args=[pipeline.pk])).status_code == 405


def test_an_edit_undoes_no_pause_that_was_made_since_the_form_was_read(browser, make_pipeline, monkeypatch):
    pipeline, write = make_pipeline(), PipelineAdmin.write

    def write_later(admin, obj, form, change):
        api.pause_schedule(obj.pk, reason="meanwhile")
        write(admin, obj, form, change)

    monkeypatch.setattr(PipelineAdmin, "write", write_later)
    assert browser.post(page_of(pipeline), {**FORM, "name": "Renamed"}).status_code == 302
    stored = Pipeline.objects.get()
    assert (stored.name, stored.active, stored.timezone) == ("Renamed", False, "Europe/Berlin")


def test_whoever_may_change_pipelines_may_pause_resume_and_run_them(make_user, make_pipeline, default):
    pipeline, client = make_pipeline(), Client()
    view, change = "pipelines.view_pipeline", "pipelines.change_pipeline"
    client.force_login(make_user("eve", default, staff=True, permissions=[view]))
    shown = text(client.get(page_of(pipeline)))
    for part in ("Run now", "Pause", "Last runs", "Its schedule"):
        assert part not in shown
    urls = [reverse(f"admin:pipelines_{name}", args=[pipeline.pk]) for name in ("pause", "resume", "run")]
    assert [client.post(url).status_code for url in urls] == [403] * 3
    client.force_login(make_user("ann", default, staff=True, permissions=[view, change]))
    assert [client.post(url, {"reason": ""}).status_code for url in urls] == [302] * 3
    assert api.ScheduleRun.objects.exists()


def test_a_pipeline_without_its_schedule_says_so(browser, make_pipeline):
    pipeline = make_pipeline()
    api.delete_schedule(pipeline.pk)
    assert "Its schedule was deleted" in text(browser.get(page_of(pipeline)))


def test_bulk_actions_say_how_many_they_touched(browser, make_pipeline):
    pipelines = [make_pipeline(name=f"n{n}") for n in range(2)]
    chosen = {"_selected_action": [p.pk for p in pipelines]}
    asked = browser.post(LIST, {"action": "pause_selected", **chosen})
    assert "This pauses 2 pipelines:" in text(asked)
    reason = {"confirmed": "1", "reason": "move", "select_across": "0"}
    off = browser.post(LIST, {"action": "pause_selected", **chosen, **reason}, follow=True)
    assert "Paused 2 pipelines." in text(off)
    assert api.PgPeriodicSchedule.objects.filter(enabled=False, pause_note="move").count() == 2
    one = {"_selected_action": [pipelines[0].pk]}
    assert "Resumed 1 pipeline." in text(browser.post(LIST, {"action": "resume_selected", **one}, follow=True))
    assert Pipeline.objects.get(active=True) == pipelines[0]
    ran = browser.post(LIST, {"action": "run_selected", **chosen}, follow=True)
    assert "Started a run of 2 pipelines." in text(ran)
    gone = browser.post(LIST, {"action": "delete_selected", "post": "yes", **chosen}, follow=True)
    assert "deleted 2 pipelines" in text(gone)
    assert not api.PgPeriodicSchedule.objects.exists()


def test_delete(browser, make_pipeline):
    pipeline = make_pipeline()
    browser.post(reverse("admin:pipelines_pipeline_delete", args=[pipeline.pk]), {"post": "yes"})
    assert not Pipeline.objects.exists()
    assert not api.PgPeriodicSchedule.objects.exists()


def test_an_execution_shows_each_step_and_cannot_be_changed(browser, make_pipeline):
    pipeline = make_pipeline({"task": "noop"}, {"task": "demo.fail"}, {"task": "noop"})
    with pytest.raises(Exception, match="step 2"):
        tasks.run(str(pipeline.pk))
    execution = PipelineExecution.objects.get()
    page = reverse("admin:pipelines_pipelineexecution_change", args=[execution.pk])
    shown = text(browser.get(page))
    for part in ("succeeded", "failed", "not run", "DemoFailure: this task fails on purpose"):
        assert part in shown
    assert browser.post(page, {"state": "succeeded"}).status_code == 403
    assert "Load" in text(browser.get("/admin/pipelines/pipelineexecution/"))


def test_members_see_their_own_organization_only(make_user, make_pipeline, acme):
    client = Client()
    client.force_login(make_user("ann", acme, staff=True))
    theirs = make_pipeline({"task": "noop"}, name="Theirs")
    tasks.run(str(theirs.pk))
    make_pipeline(name="Ours", organization=acme)
    shown = text(client.get(LIST))
    assert "Ours" in shown
    assert "Theirs" not in shown
    assert client.get(page_of(theirs)).status_code == 302
    for name in ("pause", "resume", "run"):
        assert client.post(reverse(f"admin:pipelines_{name}", args=[theirs.pk])).status_code == 404
    assert "Theirs" not in text(client.get("/admin/pipelines/pipelineexecution/"))
    answer = client.post(f"{LIST}add/", FORM)
    assert list(answer.context["adminform"].form.errors) == ["organization"]


@pytest.mark.parametrize("url", [LIST, "/admin/pipelines/pipelineexecution/"])
def test_a_list_costs_the_same_queries_however_many_rows(browser, make_pipeline, django_assert_max_num_queries, url):
    for n in range(8):
        tasks.run(str(make_pipeline({"task": "noop"}, name=f"n{n}").pk))
    with django_assert_max_num_queries(10):
        browser.get(url)


def test_every_page_of_every_model_renders_and_runs_under_the_strict_policy(browser):
    demo.seed(None)
    tasks.run(str(demo.identity("pipeline")))
    index = browser.get("/admin/")
    urls = {model["admin_url"] for app in index.context["app_list"] for model in app["models"]}
    urls |= {model["add_url"] for app in index.context["app_list"] for model in app["models"] if model["add_url"]}
    assert len(urls) > 12
    for url in sorted(urls):
        page = browser.get(url)
        assert page.status_code == 200, url
        assert "script-src 'self'" in page["Content-Security-Policy"]
        if "/scheduler/" in url or "/pipelines/" in url:
            body = page.content.decode()
            assert not re.search(r"<script(?![^>]*(src=|type=\"application/json\"))", body), url
            assert not re.search(r"\son\w+=\"|style=\"|https?://(?!www.w3.org)", body), url
    assert [app["app_label"] for app in index.context["app_list"]][:2] == ["scheduler", "pipelines"]
