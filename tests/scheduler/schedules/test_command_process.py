"""`manage.py schedules` as a shell sees it: exit codes, and what goes to which stream."""

from __future__ import annotations

import json
import sys

import pytest

from tests.processes import Manage, database_url

pytestmark = pytest.mark.processes


def test_answers_go_to_stdout_and_refusals_to_stderr_with_a_code(manage: Manage) -> None:
    assert manage.url is not None
    listed = manage.run("schedules", "list", "--json")
    assert (listed.returncode, listed.stdout) == (0, "")
    unknown = manage.run("schedules", "show", "4b4bb2c8-3a40-4d9f-8d0e-1d3f8f4f1a55")
    assert (unknown.returncode, unknown.stdout) == (5, "")
    assert "schedule: expected the id of an existing schedule" in unknown.stderr
    assert manage.run("schedules").returncode == 2
    assert manage.run("schedules", "list", "--state", "asleep").returncode == 2


@pytest.mark.postgresql("a file needs no connection")
def test_a_database_that_cannot_be_reached_exits_with_3(manage: Manage) -> None:
    assert manage.url is not None
    nowhere = manage.run("schedules", "list", url=database_url(manage.url, "no_such_database"))
    assert nowhere.returncode == 3, nowhere.output
    assert "no_such_database" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr


def test_a_schedule_made_in_a_process_is_listed_by_another(manage: Manage) -> None:
    code = (
        "import django; django.setup(); from scheduler.api import create_schedule as c;"
        "print(c(name='n', task='noop', kind='interval', expression='PT1H').pk)"
    )
    made = manage.launch([sys.executable, "-c", code])
    assert made.wait(60) == 0, made.output
    listed = manage.run("schedules", "list", "--json")
    assert [json.loads(line)["id"] for line in listed.stdout.splitlines()] == [made.stdout.strip()]
