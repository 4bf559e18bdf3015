"""Whoever enables Beat's row of a schedule that PG fires in django-celery-beat's own admin is caught, and shown."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django_celery_beat.models import PeriodicTask

from scheduler.api import BeatCatch

pytestmark = pytest.mark.django_db


def test_enabling_a_row_of_pgs_in_beats_own_admin_is_undone_and_shown(browser, make_schedule):
    made = make_schedule()
    task = PeriodicTask.objects.get(name=made.beat_name)
    url = reverse("admin:django_celery_beat_periodictask_changelist")
    browser.post(url, {"action": "enable_tasks", "_selected_action": [task.pk]})
    task.refresh_from_db()
    assert task.enabled is False
    catch = BeatCatch.objects.get()
    assert (catch.schedule_id, catch.what) == (made.pk, "enabled")

    listed = browser.get(reverse("admin:scheduler_beatcatch_changelist")).content.decode()
    for shown in (made.beat_name, "enable it", catch.role, f"process {catch.process_id}"):
        assert shown in listed
    page = browser.get(reverse("admin:scheduler_beatcatch_change", args=[catch.pk])).content.decode()
    assert "UPDATE &quot;django_celery_beat_periodictask&quot;" in page
    assert "tripwire catches" in browser.get("/admin/").content.decode().lower()


def test_what_was_caught_cannot_be_edited(browser, make_schedule):
    PeriodicTask.objects.filter(name=make_schedule().beat_name).update(enabled=True)
    url = reverse("admin:scheduler_beatcatch_change", args=[BeatCatch.objects.get().pk])
    assert browser.post(url, {"query": ""}).status_code == 403
