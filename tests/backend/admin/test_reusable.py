"""The scheduler's admin in a project that has nothing of ours but the two apps."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROJECT = """
import sys
import dj_database_url
from django.conf import settings

CONTRIB = ["admin", "auth", "contenttypes", "sessions", "messages", "staticfiles"]
settings.configure(
    INSTALLED_APPS=["scheduler", "pg_queue", *(f"django.contrib.{name}" for name in CONTRIB)],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": [
            "django.template.context_processors.request",
            "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]},
    }],
    DATABASES={"default": dj_database_url.parse(sys.argv[1])},
    ROOT_URLCONF="__main__",
    ALLOWED_HOSTS=["testserver"],
    SECRET_KEY="only-for-this-test",
    STATIC_URL="/static/",
    USE_TZ=True,
)
import django

django.setup()
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import path

from pg_queue.api import task
from scheduler import api

task("app.hello")(lambda: "hello")
urlpatterns = [path("admin/", admin.site.urls)]
browser = Client()
browser.force_login(User.objects.create_superuser("root"))
schedules, runs = "/admin/scheduler/pgperiodicschedule/", "/admin/scheduler/schedulerun/"
form = {
    "pipeline_name": "Nightly", "organization_id": "default", "task": "app.hello", "args": "[]", "kwargs": "{}",
    "kind": "crontab", "cron_string": "0 3 * * *", "timezone": "UTC", "dialect": "unix", "enabled": "on",
    "queue": "default", "priority": "5", "firer": "pg",
}
refused = browser.post(f"{schedules}add/", {**form, "firer": "beat"})
assert "django-celery-beat is not installed" in refused.content.decode()
created = browser.post(f"{schedules}add/", form)
assert created.status_code == 302, created.context["errors"]
schedule = api.PgPeriodicSchedule.objects.get()
assert browser.post(f"{schedules}{schedule.pk}/run/").status_code == 302
run = api.ScheduleRun.objects.get()
assert browser.post(f"{schedules}{schedule.pk}/pause/", {"reason": "x"}).status_code == 302
for url in ("", schedules, f"{schedules}add/", f"{schedules}{schedule.pk}/change/", f"{schedules}{schedule.pk}/pause/",
            f"{schedules}cutover/", f"{schedules}timeline/", runs, f"{runs}{run.pk}/change/",
            "/admin/scheduler/mirrorfailure/", "/admin/scheduler/handover/"):
    page = browser.get(url or "/admin/")
    assert page.status_code == 200, url
assert not [name for name in sys.modules if name.split(".")[0] in ("backend", "rest_framework")]
print("rendered")
"""


@pytest.mark.processes
def test_every_page_works_without_the_reference_project(process_database):
    done = subprocess.run(
        [sys.executable, "-c", PROJECT, process_database.url],
        env={name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rendered" in done.stdout
