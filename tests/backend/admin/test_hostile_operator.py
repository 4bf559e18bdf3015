"""Nonsense in queries, forms, ids and stored rows: no page crashes, and none lets anybody do more than they may."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.urls import reverse

from scheduler import api

pytestmark = pytest.mark.django_db
LIST = "/admin/scheduler/pgperiodicschedule/"
RUNS = "/admin/scheduler/schedulerun/"
MIRROR = "/admin/scheduler/mirrorfailure/"
HANDOVERS = "/admin/scheduler/handover/"
FORM = {
    "pipeline_name": "Nightly",
    "organization_id": "default",
    "task": "echo",
    "args": "[]",
    "kwargs": "{}",
    "kind": "crontab",
    "cron_string": "0 3 * * *",
    "timezone": "UTC",
    "dialect": "unix",
    "enabled": "on",
    "queue": "default",
    "priority": "5",
    "catch_up": "latest",
    "overlap": "allow",
    "jitter_seconds": "0",
    "firer": "pg",
}


@pytest.fixture
def browser(browser):
    """A browser that sees a crash as an operator does: as status 500."""
    browser.raise_request_exception = False
    return browser


def text(response):
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


PIPELINES, MESSAGES = "/admin/pipelines/pipeline/", "/admin/pg_queue/message/"


@pytest.mark.parametrize("page", [LIST, RUNS, MIRROR, HANDOVERS, PIPELINES, MESSAGES])
@pytest.mark.parametrize("query", ["task__regex=(", "error__iregex=(", "queue__contains=a", "kwargs__x__in=1"])
def test_a_lists_query_asks_for_what_its_filters_offer_only(browser, page, query):
    assert browser.get(f"{page}?{query}").status_code == 400


@pytest.mark.parametrize("page", [LIST, RUNS, MIRROR, HANDOVERS])
@pytest.mark.parametrize(
    "query",
    [
        "state=x",
        "kind__exact=x",
        "queue=x&firer__exact=beat",
        "organization=nobody",
        "recent=x",
        "repaired=x",
        "schedule=1",
        f"q={'x' * 10_000}",
        "q=%ED%A0%80",
        "p=999999999999999999999",
        "o=9.-9.x",
        "all=1",
        "e=1",
    ],
)
def test_a_list_answers_to_nonsense(browser, make_schedule, page, query):
    api.run_schedule(make_schedule().pk)
    assert browser.get(f"{page}?{query}", follow=True).status_code in {200, 400}


@pytest.mark.parametrize("page", [LIST, RUNS, MIRROR, HANDOVERS])
@pytest.mark.parametrize("identity", ["x", "_00", "_5F", "9" * 400, "a/b", "%ff", str(uuid.UUID(int=7))])
@pytest.mark.parametrize("tail", ["change", "delete", "history", "pause"])
def test_a_page_of_nothing_answers(browser, page, identity, tail):
    assert browser.get(f"{page}{identity}/{tail}/").status_code in {302, 403, 404}


@pytest.mark.parametrize("page", [LIST, "/admin/pipelines/pipeline/"])
def test_a_list_offers_its_actions(browser, make_pipeline, page):
    make_pipeline()
    shown = browser.get(page).content.decode()
    for action in ("pause_selected", "resume_selected", "run_selected", "delete_selected"):
        assert f'<option value="{action}">' in shown


@pytest.mark.parametrize("chosen", ["x", "\0", "", "9" * 5_000])
@pytest.mark.parametrize("action", ["pause_selected", "resume_selected", "run_selected", "delete_selected"])
def test_an_action_on_what_is_no_id_says_so_and_does_nothing(browser, make_schedule, action, chosen):
    schedule = make_schedule()
    form = {"action": action, "_selected_action": [str(schedule.pk), chosen], "confirmed": "1", "post": "yes"}
    shown = browser.post(LIST, form, follow=True)
    assert shown.status_code == 200
    assert "Nothing done." in text(shown)
    assert api.get_schedule(schedule.pk).enabled
    assert not api.ScheduleRun.objects.exists()


@pytest.mark.parametrize("name", ["starts_at", "ends_at", "kwargs", "enabled", "priority", "organization_id"])
@pytest.mark.parametrize("value", ["x", "[", "2026-02-30T00:00", "9" * 400])
def test_the_add_page_opens_from_any_link(browser, name, value):
    assert browser.get(f"{LIST}add/", {name: value}).status_code == 200


def test_the_add_page_begins_with_the_instants_of_its_link(browser):
    shown = browser.get(f"{LIST}add/", {"starts_at": "2030-01-31T06:00:00Z"})
    assert shown.context["adminform"].form["starts_at"].value() == datetime(2030, 1, 31, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value"), [("timezone", "x" * 9_000), ("kind", "x" * 9_000), ("cron_string", "\0"), ("dialect", "9" * 400)]
)
def test_the_preview_of_nonsense_is_an_error_of_its_field_and_short(browser, name, value):
    query = {"kind": "crontab", "cron_string": "* * * * *", "timezone": "UTC", "dialect": "unix"}
    answer = browser.get(reverse("admin:scheduler_preview"), {**query, name: value})
    if value == "\0":
        assert answer.status_code == 400
        return
    assert answer.json()["field"] == name
    assert len(answer.json()["error"]) < 500


@pytest.mark.parametrize("change", [{"queue": "a b"}, {"priority": "x"}, {"grace_seconds": "0"}, {"max_attempts": "x"}])
def test_a_part_that_is_folded_in_is_opened_where_it_has_an_error(browser, change):
    assert "<details>" in browser.get(f"{LIST}add/").content.decode()
    refused = browser.post(f"{LIST}add/", {**FORM, **change})
    assert list(refused.context["adminform"].form.errors) == list(change)
    assert "<details>" not in refused.content.decode()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("args", "null"),
        ("args", "1"),
        ("kwargs", "[]"),
        ("cron_string", ""),
        ("timezone", "../../etc/passwd"),
        ("timezone", "Europe"),
        ("task", "x" * 255),
        ("queue", ""),
        ("organization_id", "nobody"),
        ("beat_name", "x"),
    ],
)
@pytest.mark.parametrize("firer", ["pg", "beat"])
def test_a_row_that_was_written_past_us_is_shown_and_its_buttons_answer(browser, make_schedule, firer, column, value):
    schedule = make_schedule(firer=firer)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE scheduler_pgperiodicschedule SET {column} = %s", [value])
    page = f"{LIST}{schedule.pk}/"
    for url in (LIST, f"{page}change/", f"{page}pause/", "/api/v1/schedules/", f"/api/v1/schedules/{schedule.pk}/"):
        assert browser.get(url).status_code == 200, url
    for name in ("pause", "resume", "run"):
        assert browser.post(f"{page}{name}/", {"reason": ""}, follow=True).status_code == 200, name
    for action in ("pause_selected", "resume_selected", "run_selected"):
        chosen = {"action": action, "_selected_action": schedule.pk, "confirmed": "1"}
        assert browser.post(LIST, chosen, follow=True).status_code == 200, action


def test_what_the_database_refuses_is_told_by_its_own_words(browser, make_schedule):
    schedule = make_schedule()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE scheduler_pgperiodicschedule SET args = 'null'")
    shown = text(browser.post(f"{LIST}{schedule.pk}/pause/", {"reason": ""}, follow=True))
    assert "Not paused. The database refused it: null value in column" in shown
    assert "Failing row" not in shown


def test_a_list_offers_to_show_all_only_where_something_is_filtered_out(browser, make_schedule, monkeypatch):
    for n in range(5):
        api.run_schedule(make_schedule(name=f"n{n}").pk)
    for page in (LIST, RUNS):
        assert "Show all" not in text(browser.get(page))
        assert "Show all" in text(browser.get(f"{page}?q=n1"))
        assert "are counted" not in text(browser.get(page))
    monkeypatch.setattr("pg_queue.paginator.MOST_ROWS", 3)
    for page in (LIST, RUNS):
        assert "Only the first 3 are counted and listed" in text(browser.get(page))


VIEWS = {
    "view_pgperiodicschedule": {LIST: 200, "change": 200, "add": 403, "delete": 403, "pause": 403, "preview": 200},
    "change_pgperiodicschedule": {LIST: 200, "change": 200, "add": 403, "delete": 403, "pause": 200, "preview": 200},
    "add_pgperiodicschedule": {LIST: 403, "change": 403, "add": 200, "delete": 403, "pause": 403, "preview": 200},
    "delete_pgperiodicschedule": {LIST: 403, "change": 403, "add": 403, "delete": 200, "pause": 403, "preview": 403},
    "view_schedulerun": {LIST: 403, "change": 403, "add": 403, "delete": 403, "pause": 403, "preview": 403},
}


@pytest.mark.parametrize("permission", VIEWS)
def test_each_page_asks_for_its_own_permission(make_user, make_schedule, default, permission):
    user = make_user("eve", default, staff=True, permissions=[])
    user.user_permissions.set(Permission.objects.filter(codename=permission))
    client = Client()
    client.force_login(user)
    schedule = make_schedule()
    urls = {
        LIST: LIST,
        "add": f"{LIST}add/",
        "preview": f"{LIST}preview/?kind=crontab&cron_string=@daily",
        **{name: f"{LIST}{schedule.pk}/{name}/" for name in ("change", "delete", "pause")},
    }
    assert {name: client.get(url).status_code for name, url in urls.items()} == VIEWS[permission]
    if permission != "change_pgperiodicschedule":
        for name in ("pause", "resume", "run"):
            assert client.post(f"{LIST}{schedule.pk}/{name}/", {"reason": ""}).status_code == 403
        for action in ("pause_selected", "resume_selected", "run_selected"):
            client.post(LIST, {"action": action, "_selected_action": schedule.pk, "confirmed": "1"})
    if permission != "delete_pgperiodicschedule":
        assert client.post(urls["delete"], {"post": "yes"}).status_code == 403
        client.post(LIST, {"action": "delete_selected", "_selected_action": schedule.pk, "post": "yes"})
    assert api.get_schedule(schedule.pk).enabled
    assert not api.ScheduleRun.objects.exists()


@pytest.mark.parametrize("who", ["nobody", "no staff"])
def test_whoever_is_no_staff_is_sent_to_log_in(make_user, make_schedule, default, who):
    client = Client()
    if who == "no staff":
        client.force_login(make_user("bob", default))
    page = f"{LIST}{make_schedule().pk}/"
    for url in (LIST, RUNS, f"{LIST}preview/", f"{page}change/", f"{page}pause/"):
        assert client.get(url).status_code == 302
    for name in ("pause", "resume", "run", "delete"):
        assert client.post(f"{page}{name}/", {"post": "yes"})["Location"].startswith("/admin/login/")


def test_a_member_of_another_organization_reaches_nothing_of_it(make_user, make_schedule, acme):
    client = Client()
    client.force_login(make_user("ann", acme, staff=True))
    theirs = make_schedule(name="Theirs")
    page = f"{LIST}{theirs.pk}/"
    for name in ("change", "delete", "history"):
        assert client.get(f"{page}{name}/").status_code == 302
    assert client.get(f"{page}pause/").status_code == 404
    assert client.post(f"{page}change/", FORM).status_code == 302
    assert client.post(f"{page}delete/", {"post": "yes"}).status_code == 302
    for action in ("pause_selected", "resume_selected", "run_selected", "delete_selected"):
        for across in ("0", "1"):
            form = {"action": action, "_selected_action": theirs.pk, "select_across": across}
            shown = client.post(LIST, {**form, "confirmed": "1", "post": "yes"}, follow=True)
            assert "Theirs" not in text(shown)
    for query in (f"schedule={theirs.pk}", "organization=default", f"q={theirs.pk}", "q=Theirs"):
        assert "Theirs" not in text(client.get(f"{RUNS}?{query}"))
    after = api.get_schedule(theirs.pk)
    assert (after.enabled, after.pipeline_name) == (True, "Theirs")
    assert not api.ScheduleRun.objects.exists()
