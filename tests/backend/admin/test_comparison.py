"""The comparison in the admin and by REST, each of what the user may see."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from scheduler.models import ScheduleRun

pytestmark = pytest.mark.django_db

PAGE, REPORT, URL = "admin:scheduler_comparison", "admin:scheduler_comparison_report", "/api/v1/comparison/"


def shadow(schedule):
    """An occurrence that nobody sent."""
    at = timezone.now() - timedelta(minutes=10)
    ScheduleRun.objects.create(
        id=uuid.uuid4(),
        schedule_id=schedule.pk,
        organization_id=schedule.organization_id,
        scheduled_for=at,
        origin="shadow",
        firer="pg",
        state="fired",
        fired_at=at,
    )


def test_the_page_shows_verdicts_causes_and_schedules(browser, make_schedule):
    shadow(make_schedule(name="Night <b>", firer="beat"))
    text = browser.get(reverse(PAGE)).content.decode()
    assert "1 occurrences from" in text
    assert "beat_down: No Celery Beat was running when it was due." in text
    assert "Night &lt;b&gt;" in text
    assert "<rect " in text
    assert reverse(PAGE) in browser.get(reverse("admin:scheduler_pgperiodicschedule_changelist")).content.decode()


def test_the_page_looks_back_as_far_as_asked(browser, make_schedule):
    shadow(make_schedule(firer="beat"))
    ScheduleRun.objects.update(scheduled_for=timezone.now() - timedelta(hours=30))
    assert browser.get(reverse(PAGE)).context["comparison"].occurrences == 0
    assert browser.get(reverse(PAGE), {"hours": "168"}).context["comparison"].occurrences == 1
    assert browser.get(reverse(PAGE), {"hours": "nonsense"}).context["hours_chosen"] == "24"


def test_the_report_is_a_file(browser, make_schedule):
    shadow(make_schedule(firer="beat"))
    answer = browser.get(reverse(REPORT))
    assert answer["Content-Disposition"] == 'attachment; filename="comparison.html"'
    assert answer.content.startswith(b"<!doctype html>")


@pytest.mark.parametrize(
    ("permissions", "status"),
    [
        (["scheduler.view_pgperiodicschedule"], 403),
        (["scheduler.view_schedulerun"], 403),
        (["scheduler.view_pgperiodicschedule", "scheduler.view_schedulerun"], 200),
    ],
)
def test_the_page_asks_for_permissions_and_shows_the_users_own(make_user, make_schedule, acme, permissions, status):
    shadow(make_schedule(firer="beat"))
    client = Client()
    client.force_login(make_user("ann", acme, permissions=permissions, staff=True))
    answer = client.get(reverse(PAGE))
    assert answer.status_code == status
    assert status == 403 or answer.context["comparison"].occurrences == 0


def test_rest_compares_the_organizations_own(rest, make_schedule, acme):
    ours, theirs = make_schedule(firer="beat"), make_schedule(firer="beat", organization_id="acme")
    shadow(ours)
    shadow(theirs)
    told = rest.get(URL).json()
    assert (told["occurrences"], [one["id"] for one in told["schedules"]]) == (1, [str(ours.pk)])
    assert rest.get(URL, {"organization": "acme"}).json()["schedules"][0]["id"] == str(theirs.pk)
    assert rest.get(URL, {"schedule": str(theirs.pk)}).json()["occurrences"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"since": "2020-01-01T00:00:00Z"}, "since"),
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
        ({"schedule": "x"}, "schedule"),
        ({"bogus": "1"}, "bogus"),
    ],
)
def test_rest_refuses_by_name(rest, query, field):
    answer = rest.get(URL, query)
    assert (answer.status_code, list(answer.json())) == (400, [field])


def test_rest_asks_for_permissions(as_user, make_user, default):
    client = as_user(make_user("ann", default, permissions=["scheduler.view_pgperiodicschedule"]))
    assert client.get(URL).status_code == 403
