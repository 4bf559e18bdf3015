"""The timeline, and the warning of a crowded minute before and after a schedule is saved."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from scheduler import api

pytestmark = pytest.mark.django_db

PAGE, PREVIEW = "admin:scheduler_timeline", "admin:scheduler_preview"
ADD, CHANGE = "admin:scheduler_pgperiodicschedule_add", "admin:scheduler_pgperiodicschedule_change"
FORM = {
    "pipeline_name": "New", "organization_id": "default", "task": "echo", "args": "[]", "kwargs": "{}",
    "kind": "crontab", "cron_string": "30 4 * * *", "timezone": "UTC", "dialect": "unix", "enabled": "on",
    "queue": "default", "priority": "5", "firer": "pg", "catch_up": "latest", "overlap": "allow",
    "jitter_seconds": "0",
}  # fmt: skip
TYPED = {"kind": "crontab", "cron_string": "30 4 * * *"}


@pytest.fixture(autouse=True)
def _few(settings):
    settings.SCHEDULER = {"HERD_WARNING": 5}


@pytest.fixture
def crowd(make_schedule):
    """Six schedules of one minute."""
    return [make_schedule(name=f"Crowd {number}", expression="30 4 * * *") for number in range(6)]


def member_of(organization, make_user) -> Client:
    client = Client()
    client.force_login(make_user("ann", organization, staff=True))
    return client


def warned(browser, url, form) -> list[str]:
    """The warnings on the page that follows."""
    page = browser.post(url, form, follow=True)
    return [str(one) for one in page.context["messages"] if one.level_tag == "warning"]


def test_the_page_is_a_strip_of_quarters_each_of_which_says_what_it_holds(browser, make_schedule):
    at = timezone.now() + timedelta(hours=3)
    quarter = at.replace(minute=at.minute // 15 * 15)
    expression = f"{quarter.minute} {quarter.hour} * * *"
    for number in range(6):
        make_schedule(name=f"Crowd {number}", expression=expression)
    make_schedule(name="Each minute", expression="* * * * *")
    text = browser.get(reverse(PAGE)).content.decode()
    titles = re.findall(r"<rect[^>]*class=\"([^\"]*)\"><title>([^<]*)</title>", text)
    assert len(titles) == 96
    named = (
        f"{quarter:%H:%M}–{quarter + timedelta(minutes=15):%H:%M} UTC: 21 fires, 21 begin; 7 fires at {quarter:%H:%M}"
    )
    assert [shade for shade, title in titles if title.endswith(named)] == ["shade-5 crowded"]
    assert "7 enabled schedules are fired" in text
    assert f"6 × <code>{expression}</code>" in text
    assert "style=" not in text[text.index("db-timeline") :]  # a strict Content-Security-Policy


def test_a_week_has_a_row_for_each_day(browser, crowd):
    response = browser.get(reverse(PAGE), {"hours": "168"})
    assert len(response.context["cells"]) == 7 * 96
    assert len({cell.y for cell in response.context["cells"]}) == len(response.context["days"]) == 7
    assert len(browser.get(reverse(PAGE), {"hours": "<x>"}).context["cells"]) == 96


def test_without_schedules_the_page_is_empty(browser, default):
    response = browser.get(reverse(PAGE))
    assert "Nothing is fired." in response.content.decode()
    assert {cell.shade for cell in response.context["cells"]} == {0}


def test_the_page_is_of_what_the_user_may_see(acme, make_user, crowd, make_schedule):
    make_schedule(name="Ours", organization_id="acme", kind="interval", expression="PT20H")
    ann = member_of(acme, make_user)
    response = ann.get(reverse(PAGE))
    assert (response.context["made"].schedules, response.context["total"]) == (1, 1)
    changelist = ann.get(reverse("admin:scheduler_pgperiodicschedule_changelist")).content.decode()
    assert reverse(PAGE) in changelist
    nobody = Client()
    nobody.force_login(make_user("eve", acme, permissions=[], staff=True))
    assert nobody.get(reverse(PAGE)).status_code == 403


def test_what_is_typed_is_warned_of_a_crowded_minute_before_it_is_saved(browser, crowd, acme, make_user):
    warning = browser.get(reverse(PREVIEW), TYPED).json()["herd"]
    assert warning.startswith("6 other schedules begin in the same minute as this one")
    assert "A jitter of 120 seconds" in warning
    for harmless in ({"jitter_seconds": "300"}, {"schedule": str(crowd[0].pk)}, {"cron_string": "31 4 * * *"}):
        assert browser.get(reverse(PREVIEW), {**TYPED, **harmless}).json()["herd"] == ""
    for nonsense in ({"jitter_seconds": "x"}, {"schedule": "x"}):
        assert browser.get(reverse(PREVIEW), {**TYPED, **nonsense}).json()["herd"] == warning
    assert member_of(acme, make_user).get(reverse(PREVIEW), TYPED).json()["herd"] == ""


def test_a_form_that_is_shown_once_more_keeps_the_warning(browser, crowd):
    page = browser.post(reverse(ADD), {**FORM, "pipeline_name": ""})
    assert page.status_code == 200
    assert "6 other schedules begin in the same minute as this one" in page.content.decode()


def test_a_schedule_that_joins_a_crowd_is_saved_with_a_warning(browser, crowd):
    assert len(warned(browser, reverse(ADD), FORM)) == 1
    made = api.PgPeriodicSchedule.objects.get(pipeline_name="New")
    url = reverse(CHANGE, args=[made.pk])
    assert warned(browser, url, {**FORM, "pipeline_name": "Renamed"}) == []
    assert warned(browser, url, {**FORM, "cron_string": "31 4 * * *"}) == []
    [again] = warned(browser, url, FORM)
    assert again.startswith("6 other schedules")
    assert warned(browser, url, {**FORM, "jitter_seconds": "120"}) == []
    assert api.get_schedule(made.pk).jitter_seconds == 120


def test_the_panel_tells_the_script_which_schedule_is_being_edited(browser, crowd):
    page = browser.get(reverse(CHANGE, args=[crowd[0].pk])).content.decode()
    assert f'data-schedule="{crowd[0].pk}"' in page
    assert 'data-schedule=""' in browser.get(reverse(ADD)).content.decode()
