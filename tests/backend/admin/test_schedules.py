"""The admin of schedules and runs: every page renders, every action goes through the choke points."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from pg_queue.api import BoundedPaginator
from scheduler import api

pytestmark = pytest.mark.django_db
LIST = "/admin/scheduler/pgperiodicschedule/"
RUNS = "/admin/scheduler/schedulerun/"
FORM = {
    "pipeline_name": "Nightly",
    "organization_id": "default",
    "task": "echo",
    "args": "[1]",
    "kwargs": '{"a": 2}',
    "kind": "crontab",
    "cron_string": "0 3 * * *",
    "timezone": "Europe/Berlin",
    "dialect": "unix",
    "enabled": "on",
    "queue": "default",
    "priority": "5",
    "firer": "pg",
}


def page_of(schedule):
    return reverse("admin:scheduler_pgperiodicschedule_change", args=[schedule.pk])


def text(response):
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def errors_of(response):
    return {k: [str(e) for e in v] for k, v in response.context["adminform"].form.errors.items()}


def test_create(browser):
    answer = browser.post(f"{LIST}add/", FORM)
    assert answer.status_code == 302, errors_of(answer)
    schedule = api.PgPeriodicSchedule.objects.get()
    assert (schedule.pipeline_name, schedule.args, schedule.kwargs, schedule.timezone) == (
        "Nightly",
        [1],
        {"a": 2},
        "Europe/Berlin",
    )
    assert (schedule.enabled, schedule.firer, schedule.next_run_at is not None) == (True, "pg", True)


def test_create_an_interval_that_starts_paused(browser):
    form = {**FORM, "kind": "interval", "cron_string": "PT5S", "args": "", "kwargs": ""}
    form.pop("enabled")
    assert browser.post(f"{LIST}add/", form).status_code == 302
    schedule = api.PgPeriodicSchedule.objects.get()
    assert (schedule.interval_seconds, schedule.args, schedule.kwargs, schedule.state) == (5, [], {}, "paused")


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"cron_string": "61 * * * *"}, "cron_string", "expected"),
        ({"cron_string": "0 0 30 2 *"}, "cron_string", "0 0 30 2 *"),
        ({"timezone": "Mars"}, "timezone", "Mars"),
        ({"task": "os.system"}, "task", "registered task"),
        ({"args": '{"a": 1}'}, "args", "a list"),
        ({"args": "[1"}, "args", "valid JSON"),
        ({"args": "[" * 300 + "]" * 300}, "args", "levels"),
        ({"args": "[" * 100_000 + "]" * 100_000}, "args", "valid JSON"),
        ({"args": "[" + "9" * 5_000 + "]"}, "args", "valid JSON"),
        ({"args": '["\\ud800"]'}, "args", "surrogates"),
        ({"args": '["\\u0000"]'}, "args", "NUL"),
        ({"kwargs": "[]"}, "kwargs", "an object"),
        ({"args": '["' + "x" * 262_144 + '"]'}, "args", "262144"),
        ({"queue": "a b"}, "queue", "letters"),
        ({"priority": "11"}, "priority", "from 1 to 10"),
        ({"pipeline_name": ""}, "pipeline_name", "required"),
        ({"organization_id": "acme"}, "organization_id", "valid choice"),
        (
            {"ends_at_0": "2001-01-01", "ends_at_1": "00:00", "starts_at_0": "2002-01-01", "starts_at_1": "00:00"},
            "ends_at",
            "after",
        ),
    ],
)
def test_bad_input_is_shown_at_its_field_and_what_was_typed_is_kept(browser, change, field, words):
    answer = browser.post(f"{LIST}add/", {**FORM, **change})
    assert answer.status_code == 200
    assert list(errors_of(answer)) == [field]
    assert words in errors_of(answer)[field][0]
    assert not api.PgPeriodicSchedule.objects.exists()
    assert "Europe/Berlin" in answer.content.decode() or field == "timezone"


@pytest.mark.parametrize("page", [LIST, RUNS, "/admin/pipelines/pipeline/", "/admin/pg_queue/message/"])
@pytest.mark.parametrize("query", ["task=%00", "organization=%00", "queue=%00", "q=%00"])
def test_a_nul_in_a_lists_query_is_refused(browser, page, query):
    browser.raise_request_exception = False
    assert browser.get(f"{page}?{query}").status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/admin/pg_queue/leader/%00/change/",
        "/admin/pg_queue/worker/a%00/history/",
        "/admin/pipelines/organization/%00/change/",
        "/admin/pipelines/organization/%00/delete/",
        "/static/%00.css",
    ],
)
def test_a_nul_in_a_path_is_refused(browser, path):
    browser.raise_request_exception = False
    answer = browser.get(path)
    assert (answer.status_code, answer.content) == (400, b"expected a path without NUL (%00)")


@pytest.mark.parametrize("path", ["schedules/%00/", "pipelines/%00/next/", "tasks/%00/", "messages/%00/", "%00/"])
def test_a_nul_in_a_path_of_rest_is_not_found(browser, path):
    browser.raise_request_exception = False
    assert browser.get(f"/api/v1/{path}").status_code == 404


def test_edit_writes_what_was_changed_only(browser, make_schedule):
    schedule = make_schedule(args=[1], queue="slow")
    form = {**FORM, "pipeline_name": "Renamed", "timezone": "UTC", "queue": "slow", "args": "[1]", "kwargs": "{}"}
    assert browser.post(page_of(schedule), form).status_code == 302
    after = api.get_schedule(schedule.pk)
    assert (after.pipeline_name, after.next_run_at, after.enabled) == ("Renamed", schedule.next_run_at, True)


def test_an_edit_that_is_refused_changes_nothing_and_shows_why(browser, make_schedule):
    schedule = make_schedule()
    answer = browser.post(page_of(schedule), {**FORM, "cron_string": "nonsense"})
    assert list(errors_of(answer)) == ["cron_string"]
    assert api.get_schedule(schedule.pk).pipeline_name == schedule.pipeline_name
    assert not LogEntry.objects.exists()


def test_organization_and_firer_of_an_existing_schedule_cannot_be_posted(browser, make_schedule, acme):
    schedule = make_schedule()
    browser.post(page_of(schedule), {**FORM, "organization_id": "acme", "firer": "beat"})
    after = api.get_schedule(schedule.pk)
    assert (after.organization_id, after.firer) == ("default", "pg")


@pytest.mark.parametrize("change", [{"task": "noop"}, {"args": "[1]"}, {"kwargs": "{}"}])
def test_what_a_pipelines_schedule_runs_cannot_be_edited_here(browser, make_pipeline, change):
    schedule = api.get_schedule(make_pipeline().pk)
    form = {**FORM, "task": "pipelines.run", "args": "[]", "kwargs": f'{{"pipeline_id": "{schedule.pk}"}}'}
    answer = browser.post(page_of(schedule), {**form, **change})
    assert list(errors_of(answer)) == list(change)
    assert "edit the pipeline" in errors_of(answer)[next(iter(change))][0]
    assert browser.post(page_of(schedule), {**form, "pipeline_name": "Renamed"}).status_code == 302
    assert api.get_schedule(schedule.pk).pipeline_name == "Renamed"


def test_the_page_shows_the_next_ten_runs_and_the_last_ones_with_four_instants(browser, make_schedule):
    schedule = make_schedule(expression="30 6 * * *", timezone="Europe/Berlin")
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    api.ScheduleRun.objects.create(
        id=uuid.uuid4(), schedule_id=schedule.pk, organization_id="default", scheduled_for=noon, firer="pg",
        state="succeeded", fired_at=noon.replace(microsecond=5000), started_at=noon.replace(second=1),
        finished_at=noon.replace(second=2), result={"rows": 3},
    )  # fmt: skip
    shown = text(browser.get(page_of(schedule)))
    assert len(re.findall(r"\d{4}-\d\d-\d\d 06:30:00 (?:CET|CEST)", shown.partition("Across the")[0])) == 10
    for part in (
        "2026-03-01 12:00:00",
        "12:00:00.005",
        "12:00:01.000",
        "12:00:02.000",
        "succeeded",
        "{&quot;rows&quot;: 3}",
    ):
        assert part in shown


def test_a_paused_schedule_says_why_and_shows_no_next_run(browser, make_schedule):
    schedule = make_schedule()
    api.pause_schedule(schedule.pk, reason="holiday & rest")
    shown = text(browser.get(page_of(schedule)))
    assert "holiday &amp; rest" in shown
    assert "Nothing will run until this schedule is resumed." in shown
    assert "Resume" in shown
    assert "holiday &amp; rest" in text(browser.get(LIST))


def test_pause_asks_for_a_reason_then_resume_and_run_now(browser, make_schedule):
    schedule = make_schedule()
    url = reverse("admin:scheduler_pause", args=[schedule.pk])
    assert "Reason" in text(browser.get(url))
    assert api.get_schedule(schedule.pk).enabled, "asking changes nothing"
    assert "Paused Nightly." in text(browser.post(url, {"reason": "audit"}, follow=True))
    assert api.get_schedule(schedule.pk).pause_note == "audit"
    resumed = browser.post(reverse("admin:scheduler_resume", args=[schedule.pk]), follow=True)
    assert "Resumed Nightly" in text(resumed)
    assert api.get_schedule(schedule.pk).enabled
    ran = browser.post(reverse("admin:scheduler_run", args=[schedule.pk]), follow=True)
    assert "Started a run of Nightly now." in text(ran)
    assert api.ScheduleRun.objects.get().origin == "manual"
    assert LogEntry.objects.count() == 3


@pytest.mark.parametrize("name", ["scheduler_resume", "scheduler_run"])
def test_actions_are_not_taken_by_a_link(browser, make_schedule, name):
    assert browser.get(reverse(f"admin:{name}", args=[make_schedule().pk])).status_code == 405
    assert not api.ScheduleRun.objects.exists()


def test_an_action_on_a_schedule_that_is_gone_is_not_found(browser):
    assert browser.post(reverse("admin:scheduler_run", args=[uuid.uuid4()])).status_code == 404


def test_delete_keeps_the_runs(browser, make_schedule):
    schedule = make_schedule()
    api.run_schedule(schedule.pk)
    url = reverse("admin:scheduler_pgperiodicschedule_delete", args=[schedule.pk])
    assert "Nightly" in text(browser.get(url))
    assert browser.post(url, {"post": "yes"}).status_code == 302
    assert not api.PgPeriodicSchedule.objects.exists()
    assert api.ScheduleRun.objects.filter(origin="manual").exists()
    shown = browser.get(RUNS)
    assert "deleted schedule" in text(shown)


def bulk(browser, action, schedules, **more):
    return browser.post(LIST, {"action": action, "_selected_action": [s.pk for s in schedules], **more}, follow=True)


def test_bulk_actions_say_how_many_schedules_they_touched(browser, make_schedule):
    schedules = [make_schedule(name=f"n{n}") for n in range(3)]
    asked = bulk(browser, "pause_selected", schedules[:2])
    assert "This pauses 2 schedules" in text(asked)
    assert all(s.enabled for s in api.PgPeriodicSchedule.objects.all())
    done = bulk(browser, "pause_selected", schedules[:2], confirmed="1", reason="move", select_across="0")
    assert "Paused 2 schedules." in text(done)
    assert api.PgPeriodicSchedule.objects.filter(enabled=False, pause_note="move").count() == 2
    assert "Resumed 1 schedule." in text(bulk(browser, "resume_selected", schedules[:1]))
    assert "Started a run of 3 schedules." in text(bulk(browser, "run_selected", schedules))
    assert api.ScheduleRun.objects.filter(origin="manual").count() == 3
    deleted = bulk(browser, "delete_selected", schedules, post="yes")
    assert "Deleted 3 schedules." in text(deleted)
    assert not api.PgPeriodicSchedule.objects.exists()


def test_a_bulk_action_names_what_was_refused_and_does_the_rest(browser, make_schedule):
    good, bad = make_schedule(name="good", enabled=False), make_schedule(name="bad", enabled=False)
    api.PgPeriodicSchedule.objects.filter(pk=bad.pk).update(cron_string="nonsense", quarantined_at=datetime.now(UTC))
    shown = text(bulk(browser, "resume_selected", [good, bad]))
    assert "Resumed 1 schedule." in shown
    assert "1 refused: bad: expression: expected" in shown


def test_the_preview_evaluates_what_is_typed(browser):
    url = reverse("admin:scheduler_preview")
    good = browser.get(url, {"kind": "crontab", "cron_string": "30 1 * * *", "timezone": "Asia/Tokyo"}).json()
    assert len(good["results"]) == 10
    assert good["results"][0]["local"].endswith("01:30:00 JST")
    assert good["results"][0]["utc"].endswith("16:30:00 UTC")
    bad = browser.get(url, {"kind": "crontab", "cron_string": "0 0 30 2 *"}).json()
    assert (bad["field"], bad["error"].startswith("expression: expected")) == ("cron_string", True)
    assert browser.get(url, {"kind": "crontab"}).json()["field"] == "cron_string"
    assert Client().get(url).status_code == 302


@pytest.mark.parametrize("query", ["", "?state=paused", "?q=night", "?kind=interval", "?queue=slow", "?o=-5", "?all="])
def test_the_list_renders(browser, make_schedule, query):
    make_schedule()
    assert browser.get(LIST + query).status_code == 200


def test_a_schedule_in_quarantine_shows_its_error(browser, make_schedule):
    schedule = make_schedule()
    api.PgPeriodicSchedule.objects.update(
        quarantined_at=datetime.now(UTC), quarantine_error="expression: expected sense", timezone="Gone/Zone"
    )
    for url in (LIST, page_of(schedule)):
        assert "expression: expected sense" in text(browser.get(url))


def test_runs_are_read_only_whatever_the_permissions(browser, make_schedule):
    run = api.run_schedule(make_schedule().pk)
    page = f"{RUNS}{run.pk}/change/"
    assert browser.get(page).status_code == 200
    assert browser.post(page, {"state": "failed"}).status_code == 403
    assert browser.get(f"{RUNS}add/").status_code == 403
    assert browser.post(f"{RUNS}{run.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "Save" not in text(browser.get(page))
    mirror = "/admin/scheduler/mirrorfailure/"
    failure = api.MirrorFailure.objects.create(schedule_id=uuid.uuid4(), beat_name="b", path="create", error="boom\nx")
    assert "boom" in text(browser.get(mirror))
    assert browser.get(f"{mirror}?repaired=no").status_code == 200
    assert browser.get(f"{mirror}{failure.pk}/change/").status_code == 200
    assert browser.get(f"{mirror}add/").status_code == 403


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?state=fired",
        "?recent=1",
        "?origin=manual",
        "?q=Nightly",
        "?q=x",
        "?schedule={s}",
        "?q={r}",
        "?schedule=junk",
    ],
)
def test_the_list_of_runs_renders(browser, make_schedule, query):
    schedule = make_schedule()
    run = api.run_schedule(schedule.pk)
    answer = browser.get(RUNS + query.format(s=schedule.pk, r=run.pk))
    assert answer.status_code == 200
    assert ("1 run" in text(answer)) == (query not in {"?q=x", "?schedule=junk"})


def test_the_list_of_runs_is_of_one_organization(browser, make_schedule, acme):
    api.run_schedule(make_schedule(name="Ours").pk)
    api.run_schedule(make_schedule(name="Theirs", organization_id="acme").pk)
    assert "Theirs" not in text(browser.get(RUNS))
    assert "Theirs" in text(browser.get(f"{RUNS}?organization=acme"))


@pytest.mark.parametrize("url", [LIST, RUNS])
def test_a_list_costs_the_same_queries_however_many_rows(browser, make_schedule, django_assert_max_num_queries, url):
    for n in range(10):
        api.run_schedule(make_schedule(name=f"n{n}").pk)
    with django_assert_max_num_queries(10):
        browser.get(url)


def test_a_ledger_is_never_counted_beyond_the_bound(make_schedule, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr("pg_queue.paginator.MOST_ROWS", 3)
    for n in range(5):
        api.run_schedule(make_schedule(name=f"n{n}").pk)
    with django_assert_num_queries(1) as queries:
        assert BoundedPaginator(api.ScheduleRun.objects.order_by("id"), 2).count == 3
    assert "LIMIT 3" in queries[0]["sql"]


def test_members_see_and_change_their_own_organization_only(make_user, make_schedule, acme):
    client = Client()
    client.force_login(make_user("ann", acme, staff=True))
    ours, theirs = make_schedule(name="Ours", organization_id="acme"), make_schedule(name="Theirs")
    run = api.run_schedule(theirs.pk)
    shown = text(client.get(LIST))
    assert "Ours" in shown
    assert "Theirs" not in shown
    assert client.get(page_of(ours)).status_code == 200
    assert client.get(page_of(theirs)).status_code == 302
    for name in ("pause", "resume", "run"):
        assert client.post(reverse(f"admin:scheduler_{name}", args=[theirs.pk])).status_code == 404
    assert client.get(f"{RUNS}{run.pk}/change/").status_code == 302
    assert "Theirs" not in text(client.get(f"{RUNS}?organization=default"))
    assert "By organization All Acme" in text(client.get(LIST)), "other organizations' names are not told either"
    assert errors_of(client.post(f"{LIST}add/", FORM)).keys() == {"organization_id"}
    assert api.PgPeriodicSchedule.objects.count() == 2


def test_each_action_asks_for_its_permission(make_user, make_schedule, default):
    schedule = make_schedule()
    client = Client()
    client.force_login(make_user("eve", default, staff=True, permissions=["scheduler.view_pgperiodicschedule"]))
    assert client.get(page_of(schedule)).status_code == 200
    shown = text(client.get(page_of(schedule)))
    assert "Run now" not in shown
    assert "Last runs" not in shown
    for name in ("pause", "resume", "run"):
        assert client.post(reverse(f"admin:scheduler_{name}", args=[schedule.pk])).status_code == 403
    assert client.post(f"{LIST}add/", FORM).status_code == 403
    assert client.get(RUNS).status_code == 403
    bulk(client, "run_selected", [schedule])
    assert not api.ScheduleRun.objects.exists()


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_the_next_run_of_a_schedule_that_beat_fires_lies_ahead(browser):
    made = api.create_schedule(name="Nightly", task="echo", expression="0 3 * * *", firer="beat")
    api.PgPeriodicSchedule.objects.filter(pk=made.pk).update(next_run_at=datetime(2020, 1, 1, 3, tzinfo=UTC))
    for url in (LIST, page_of(made)):
        shown = text(browser.get(url))
        assert "2020-01-01" not in shown
        assert "03:00:00" in shown
    api.PgPeriodicSchedule.objects.filter(pk=made.pk).update(ends_at=datetime(2020, 1, 1, 4, tzinfo=UTC))
    shown = text(browser.get(f"{LIST}?state=ended"))
    assert "Nightly ended" in shown


def test_a_schedules_page_tells_who_changed_it(browser, make_schedule, root):
    schedule = make_schedule()
    with api.acting_as("ada <b>"):
        api.update_schedule(schedule.pk, priority=7, kwargs={"a": "x" * 200})
    browser.post(reverse("admin:scheduler_pause", args=[schedule.pk]), {"reason": "moving house"})
    page = browser.get(reverse("admin:scheduler_pgperiodicschedule_change", args=[schedule.pk]))
    assert [(one["action"], one["actor"]) for one in page.context["changes"]] == [
        ("pause", root.get_username()),
        ("update", "ada <b>"),
        ("create", ""),
    ]
    text = page.content.decode()
    assert "ada &lt;b&gt;" in text
    assert "priority: 5 → 7" in text
    assert "x" * 100 not in text.split("Who changed it")[1]
