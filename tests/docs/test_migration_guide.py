"""The migration guide, followed by a project with a real `celery beat`: every command of its steps, in their order."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.cutover.finish import drop_tables
from tests.processes import Manage, ProcessDatabase, RunningProcess, copied_database
from tests.scheduler.beat.test_beat_processes import stop, wait_until
from tests.scheduler.rows import Rows

pytestmark = [pytest.mark.processes, pytest.mark.long]

GUIDE = (Path(__file__).resolve().parents[2] / "docs/howto/migrate-from-beat.md").read_text()
SERVICES = "run_scheduler", "run_worker"
MAKE = """
import django
django.setup()
from django_celery_beat.models import IntervalSchedule, PeriodicTask
for name, seconds in (("poll", 1), ("sync", 1), ("report", 2)):
    every, _ = IntervalSchedule.objects.get_or_create(every=seconds, period="seconds")
    PeriodicTask.objects.create(name=name, task="proj.report", interval=every)
"""
FIRED = "SELECT count(*) FROM scheduler_schedulerun WHERE firer = 'pg' AND origin = 'schedule' AND state = 'succeeded'"
FIRERS = "SELECT beat_name, firer FROM scheduler_pgperiodicschedule ORDER BY firer, beat_name"
EVERY_ONE = "UPDATE scheduler_pgperiodicschedule SET catch_up = 'all'"
"""So that a slow machine leaves none out."""
READY = """
    SELECT count(*) FROM scheduler_schedulerun
    WHERE origin = 'shadow' AND state = 'fired' AND scheduled_for < now() - interval '16 seconds'
"""


def commands() -> list[str]:
    """The lines of the steps that a shell is to run."""
    (way,) = re.findall(r"^## The way, step by step$(.*?)^## ", GUIDE, re.MULTILINE | re.DOTALL)
    return re.findall(r"^    (\S.*)$", re.sub(r"```.*?```", "", way, flags=re.DOTALL), re.MULTILINE)


@pytest.fixture
def database() -> Iterator[ProcessDatabase]:
    """A database with nothing in it."""
    with copied_database(os.environ["DATABASE_URL"], "template1", "guide") as made:
        yield made


class Follower:
    """Does what the guide says."""

    def __init__(self, database: ProcessDatabase) -> None:
        self.manage = Manage(database.url)
        self.rows = Rows(database)
        self.beat: RunningProcess | None = None
        self.services: list[RunningProcess] = []

    def run(self, argv: list[str], settings: str = "during") -> RunningProcess:
        process = self.manage.launch(argv, env={"DJANGO_SETTINGS_MODULE": f"tests.docs.proj.{settings}"})
        assert process.wait(120) == 0, process.output
        return process

    def follow(self, command: str) -> str:
        """Do one line; what it printed."""
        program, *arguments = shlex.split(command)
        if program == "pip":
            return ""
        if program == "celery":
            self.start_beat("during")
            return ""
        assert (program, arguments[0]) == ("python", "manage.py")
        return self.follow_manage(arguments[1:])

    def follow_manage(self, arguments: list[str]) -> str:
        if arguments[0] in SERVICES:
            env = {"DJANGO_SETTINGS_MODULE": "tests.docs.proj.during"}
            process = self.manage(*arguments, env=env)
            process.wait_for_line("started", 90)
            self.services.append(process)
            return ""
        if arguments[0] == "compare_runs":
            self.rows.session.execute(EVERY_ONE)
            wait_until(lambda: self.rows.count(READY) >= 15, "enough to compare")
        return self.run([sys.executable, "manage.py", *self.filled(arguments)]).stdout

    def filled(self, arguments: list[str]) -> list[str]:
        return [self.schedule_id() if argument == "ID" else argument for argument in arguments]

    def schedule_id(self) -> str:
        found = self.rows.session.execute(
            "SELECT pipeline_id AS id FROM scheduler_pgperiodicschedule WHERE beat_name = 'poll'"
        )
        return str(found.fetchone()["id"])  # type: ignore[index]

    def start_beat(self, settings: str) -> None:
        """As the guide says, and as it ran before."""
        if self.beat is not None:
            assert stop(self.beat, self.rows) == 0
        scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
        self.beat = self.manage.launch(
            [sys.executable, "-m", "celery", "-A", "tests.docs.proj", "beat", "-l", "INFO", "-S", scheduler],
            env={"DJANGO_SETTINGS_MODULE": f"tests.docs.proj.{settings}", "PGAPPNAME": "beat"},
        )
        self.beat.wait_for_line("Sending due task", 90)


@pytest.fixture
def follower(database: ProcessDatabase) -> Iterator[Follower]:
    """Somebody with the guide in hand."""
    made = Follower(database)
    try:
        yield made
    finally:
        made.manage.clean_up()
        made.rows.close()


def test_the_guide_takes_a_project_off_celery_beat(follower: Follower) -> None:
    follower.run([sys.executable, "manage.py", "migrate"], "before")
    follower.run([sys.executable, "-c", MAKE], "before")
    follower.start_beat("before")
    printed = {command: follower.follow(command) for command in commands()[:-1]}
    assert "4 imported; Celery Beat goes on firing them." in printed["python manage.py import_beat"]
    assert "canary" in printed["python manage.py cutover status"]
    wait_until(lambda: follower.rows.count(FIRED) >= 6, "Downbeat's worker runs the tasks")
    firers = [(row["beat_name"], row["firer"]) for row in follower.rows.session.execute(FIRERS).fetchall()]
    assert firers == [("celery.backend_cleanup", "beat"), ("poll", "pg"), ("report", "pg"), ("sync", "pg")]
    finished = json.loads(follower.follow(f"{commands()[-1]} --json"))
    assert finished["left"] == []
    assert follower.beat is not None
    assert stop(follower.beat, follower.rows) == 0
    assert_nothing_is_missed_or_doubled(follower.rows)
    assert [service.stop() for service in follower.services] == [0, 0]
    (clean_up,) = re.findall(r"manage.py (schedules delete \S+ --yes)", " ".join(finished["steps"]))
    follower.rows.session.execute(drop_tables())
    for command in (["check"], ["migrate"], clean_up.split(), ["run_scheduler", "--once"], ["run_worker", "--once"]):
        follower.run([sys.executable, "manage.py", *command], "after")


def assert_nothing_is_missed_or_doubled(rows: Rows) -> None:
    """Since Beat is observed, each occurrence follows the one before it, whoever fired them."""
    statement = """
        SELECT schedule.beat_name AS name, run.scheduled_for AS at, coalesce(send.sent_at, run.scheduled_for) AS anchor,
               make_interval(secs => schedule.interval_seconds) AS period
        FROM scheduler_schedulerun AS run
        JOIN scheduler_pgperiodicschedule AS schedule ON schedule.pipeline_id = run.schedule_id
        LEFT JOIN scheduler_beatsend AS send
            ON send.schedule_id = run.schedule_id AND send.scheduled_for = run.scheduled_for AND send.is_first
        WHERE run.origin = 'schedule' AND run.fired_at IS NOT NULL
        ORDER BY schedule.beat_name, run.scheduled_for
    """
    for _, fires in itertools.groupby(rows.session.execute(statement).fetchall(), key=lambda fire: fire["name"]):
        for early, late in itertools.pairwise(fires):
            assert late["at"] == early["anchor"] + early["period"]
    repeated = (
        "SELECT count(*) FROM scheduler_beatsend WHERE state = 'sent' AND NOT is_first AND schedule_id IS NOT NULL"
    )
    assert rows.count(repeated) == 0
