"""The end of a migration: what is left with Beat is told, and afterwards everything works without it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from scheduler import api
from scheduler.cutover import complete_arrivals, finish
from scheduler.cutover.finish import drop_tables
from tests.processes import Manage
from tests.scheduler.beat.test_projects import WITHOUT_BEAT
from tests.scheduler.cutover.conftest import Beat
from tests.scheduler.cutover.test_promotion import promote
from tests.scheduler.rows import Rows
from tests.scheduler.schedules.conftest import Hands

SERVED = """
import django
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client
for command in (["cutover", "finish"], ["cutover", "status"], ["run_scheduler", "--once"], ["run_reaper", "--once"]):
    call_command(*command)
try:
    call_command("import_beat")
except CommandError as error:
    print("refused:", error)
client = Client()
client.force_login(get_user_model().objects.create_superuser("root"))
PAGES = "", "add/", "comparison/", "timeline/"
for page in (*(f"pgperiodicschedule/{name}" for name in PAGES), "beatsend/", "mirrordrift/"):
    answer = client.get(f"/admin/scheduler/{page}", HTTP_HOST="localhost")
    print("page", page, answer.status_code)
for path in ("schedules/", "comparison/"):
    print("rest", path, client.get(f"/api/v1/{path}", HTTP_HOST="localhost").status_code)
"""


def run() -> dict[str, Any]:
    out = StringIO()
    call_command("cutover", "finish", "--json", stdout=out)
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


@pytest.mark.django_db
def test_what_is_left_with_beat_is_told_with_what_to_do(
    made_before: Callable[..., Any], beat: Beat, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    fired, waiting, done = (made_before(kind="interval", expression="PT1M", name=name) for name in ("a", "b", "c"))
    promote(done)
    beat.send_canary()
    complete_arrivals()
    promote(waiting)
    every = IntervalSchedule.objects.create(every=1, period="days")
    PeriodicTask.objects.create(name="nobody's", task="noop", interval=every)
    from celery import current_app

    monkeypatch.setitem(current_app.conf.beat_schedule, "unwritten", {"task": "noop", "schedule": 60.0})
    left = [(one.kind.value, one.name) for one in finish().left]
    assert left == [
        ("schedule", "a"),
        ("handover", str(waiting.pk)),
        ("beat_row", "nobody's"),
        ("entry", "unwritten"),
    ]
    assert str(fired.pk) in finish().left[0].hint
    with pytest.raises(CommandError, match="4 left with Celery Beat") as refused:
        run()
    assert refused.value.returncode == 6


@pytest.mark.django_db
def test_when_nothing_is_left_it_tells_how_to_remove_beat(every_minute: Any, beat: Beat) -> None:
    promote(every_minute)
    beat.send_canary()
    complete_arrivals()
    answer = run()
    assert answer["left"] == []
    assert [step.split()[0] for step in answer["steps"]] == ["Stop", "Take", "Take", "Uninstall", "When"]
    assert "here 1 lives" in answer["steps"][0]
    assert drop_tables() in answer["steps"][-1]


@pytest.mark.processes
def test_afterwards_everything_works_without_django_celery_beat(manage: Manage, rows: Rows) -> None:
    rows.session.execute(drop_tables())
    settings = {"DJANGO_SETTINGS_MODULE": "tests.scheduler.beat.settings_without_beat"}
    process = manage.launch([sys.executable, "-c", WITHOUT_BEAT + SERVED], env=settings)
    assert process.wait(120) == 0, process.output
    assert "imported: False" in process.stdout
    assert "Nothing is left with Celery Beat." in process.stdout
    assert "refused: firer: expected 'pg', because django-celery-beat is not installed" in process.stdout
    answers = [line.split()[-1] for line in process.stdout.splitlines() if line.startswith(("page", "rest"))]
    assert answers == ["200"] * 8, process.output
    assert api.Firer.PG == "pg"
