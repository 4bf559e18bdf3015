"""The evaluator stands alone: it can be used, and reasoned about, without the project around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.domain import CronDialect, ScheduleKind
from scheduler.recurrence import Cadence

PROJECT = Path(__file__).parents[3]


@pytest.mark.parametrize("module", ["django", "celery", "psycopg", "cron_descriptor", "ephem"])
def test_evaluating_loads_neither_django_nor_celery_nor_a_driver(module: str) -> None:
    script = (
        "import sys\n"
        "from scheduler.recurrence import validate\n"
        "validate(kind='crontab', expression='0 3 * * mon', timezone='UTC')\n"
        "validate(kind='crontab', expression='0 3 * * mon', timezone='UTC', dialect='celery')\n"
        f"print({module!r} in sys.modules)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "False"


def test_cadences_written_as_text_and_as_enum_members_are_one_key() -> None:
    as_text = Cadence("crontab", "0 3 * * *", "UTC", "celery")
    as_members = Cadence(ScheduleKind.CRONTAB, "0 3 * * *", "UTC", CronDialect.CELERY)
    assert {as_text: 1}[as_members] == 1
