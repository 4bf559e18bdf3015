"""The form shows what happens around the next clock changes, here and under Celery Beat's rules."""

from __future__ import annotations

import pytest
from django.urls import reverse

pytestmark = pytest.mark.django_db

HEADING = "Across the next clock changes"
SPRING = {"expression": "30 2 * * *", "timezone": "Europe/Berlin"}


def page_of(browser, row):
    return browser.get(reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk]))


def test_a_stored_schedules_page_shows_both_sides_and_why_they_differ(browser, make_schedule):
    page = page_of(browser, make_schedule(**SPRING)).content.decode()
    assert HEADING in page
    assert "at 02:00 the clock goes forward to 03:00" in page
    assert "at 03:00 the clock goes back to 02:00" in page
    for shown in ("03:00:00 CEST", "03:30:00 CEST", "spring gap", "02:30 becomes 03:30"):
        assert shown in page


def test_a_pipelines_page_shows_them_too(browser, make_pipeline):
    page = page_of(browser, make_pipeline(**SPRING)).content.decode()
    assert "03:30:00 CEST" in page


def test_where_no_clock_changes_the_panel_is_hidden(browser, make_schedule):
    for fields in ({"timezone": "UTC"}, {"kind": "interval", "expression": "PT5M"}):
        response = page_of(browser, make_schedule(**fields))
        assert response.context["clock"]["changes"] == []
        assert 'id="clock-changes" hidden' in response.content.decode()
    assert (
        'id="clock-changes" hidden' in browser.get(reverse("admin:scheduler_pgperiodicschedule_add")).content.decode()
    )


def test_the_preview_of_what_is_typed_tells_them_as_well(browser):
    query = {"kind": "crontab", "cron_string": "*/30 * * * *", "timezone": "America/New_York", "dialect": "unix"}
    answer = browser.get(reverse("admin:scheduler_preview"), query).json()
    back = next(change for change in answer["clock"]["changes"] if "goes back" in change["title"])
    assert [row["why"] for row in back["rows"] if row["beat"] == "–"] == ["repeated hour", "repeated hour"]
    assert [reason.split(":")[0] for reason in answer["clock"]["reasons"]] == ["Repeated hour"]
    assert answer["clock"]["note"] == ""


def test_a_form_with_an_error_elsewhere_keeps_showing_what_was_typed(browser, make_schedule):
    made = make_schedule()
    url = reverse("admin:scheduler_pgperiodicschedule_change", args=[made.pk])
    form = {"cron_string": "30 2 * * *", "timezone": "Europe/Berlin", "kind": "crontab", "dialect": "unix"}
    page = browser.post(url, {**form, "pipeline_name": ""})
    assert "03:30:00 CEST" in page.content.decode()
