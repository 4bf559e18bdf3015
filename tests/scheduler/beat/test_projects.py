"""Whole projects, as processes: without django-celery-beat, and with its migrations before or after ours."""

from __future__ import annotations

import sys

import pytest

from tests.processes import Manage, ProcessDatabase

pytestmark = pytest.mark.processes

WITHOUT_BEAT = """
import sys, django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("check", databases=["default"])
from scheduler import api
made = api.create_schedule(name="n", task="noop", expression="* * * * *")
api.pause_schedule(made.pk)
api.update_schedule(made.pk, expression="*/5 * * * *")
api.resume_schedule(made.pk)
api.run_schedule(made.pk)
try:
    api.create_schedule(name="n", task="noop", expression="* * * * *", firer="beat")
except api.BeatUnavailable as error:
    print("refused:", error)
api.delete_schedule(made.pk)
print("imported:", any(name.startswith("django_celery_beat") and module for name, module in sys.modules.items()))
"""
GUARDED = "SELECT count(*) FROM pg_trigger WHERE tgname = 'scheduler_guard_beat'"
FUNCTION = "SELECT count(*) FROM pg_proc WHERE proname = 'scheduler_guard_beat'"


def count(database: ProcessDatabase, statement: str) -> int:
    with database.connect() as session:
        row = session.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def test_a_project_without_django_celery_beat_schedules_by_pg(manage: Manage) -> None:
    settings = {"DJANGO_SETTINGS_MODULE": "tests.scheduler.beat.settings_without_beat"}
    process = manage.launch([sys.executable, "-c", WITHOUT_BEAT], env=settings)
    assert process.wait(60) == 0, process.output
    assert "refused: firer: expected 'pg', because django-celery-beat is not installed" in process.stdout
    assert "imported: False" in process.stdout


def test_the_guard_is_there_whichever_app_is_migrated_first(manage: Manage, process_database: ProcessDatabase) -> None:
    assert manage.run("migrate", "django_celery_beat", "zero").returncode == 0
    assert count(process_database, GUARDED) == 0
    assert manage.run("migrate", "django_celery_beat").returncode == 0
    assert count(process_database, GUARDED) == 1
    assert manage.run("migrate", "scheduler", "zero").returncode == 0
    assert (count(process_database, GUARDED), count(process_database, FUNCTION)) == (0, 0)
    assert manage.run("migrate", "scheduler").returncode == 0
    assert count(process_database, GUARDED) == 1
