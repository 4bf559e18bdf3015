"""Schedules handed over and back while a real `celery beat` and a real scheduler run: nothing missed, nothing twice."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.processes import Manage, RunningProcess
from tests.scheduler.beat.test_beat_processes import GATE, OURS, STOCK, make, recorded, start, stop, wait_until
from tests.scheduler.rows import Rows

pytestmark = [pytest.mark.processes, pytest.mark.long]

FIRES = """
    SELECT schedule_id, scheduled_for, firer FROM scheduler_schedulerun
    WHERE origin = 'schedule' AND state IN ('fired', 'running', 'succeeded', 'failed') ORDER BY scheduled_for
"""


@pytest.fixture
def scheduler(manage: Manage) -> RunningProcess:
    """A leader that reaps."""
    process = manage("run_scheduler")
    process.wait_for_line("leader.elected", 90)
    return process


def cutover(manage: Manage, *arguments: str, code: int = 0, **env: str) -> dict[str, Any]:
    process = manage.run("cutover", *arguments, "--json", env=env)
    assert process.returncode == code, process.output
    answer: dict[str, Any] = json.loads(process.stdout)
    return answer


def fires(rows: Rows, schedule_id: str, firer: str) -> list[datetime]:
    found = rows.session.execute(FIRES).fetchall()
    return [one["scheduled_for"] for one in found if str(one["schedule_id"]) == schedule_id and one["firer"] == firer]


def breaks(rows: Rows, schedule_id: str) -> list[str]:
    """Where an occurrence of an interval of one second does not follow the one before it."""
    mine = [send for send in recorded(rows) if str(send["schedule_id"]) == schedule_id]
    sent = {send["scheduled_for"]: send["sent_at"] for send in mine if send["state"] == "sent"}
    times = sorted(fires(rows, schedule_id, "beat") + fires(rows, schedule_id, "pg"))
    return [
        f"{late} follows {early}"
        for early, late in itertools.pairwise(times)
        if late != sent.get(early, early) + timedelta(seconds=1)
    ]


def wait_for_fires(rows: Rows, schedule_id: str, firer: str, more: int) -> None:
    before = len(fires(rows, schedule_id, firer))
    wait_until(lambda: len(fires(rows, schedule_id, firer)) >= before + more, f"{more} more by {firer}")


@pytest.mark.parametrize(("beat_class", "env", "method"), [(STOCK, {}, "canary"), (OURS, GATE, "claim")])
def test_there_and_back_again(
    manage: Manage, rows: Rows, scheduler: RunningProcess, beat_class: str, env: dict[str, str], method: str
) -> None:
    schedules = make(manage, *[("interval", "PT1S")] * 3)
    one = schedules[0]
    rows.session.execute("UPDATE scheduler_pgperiodicschedule SET catch_up = 'all'")  # a slow machine leaves none out
    beat = start(manage, beat_class, **env)
    wait_for_fires(rows, one, "beat", 3)
    refused = cutover(manage, "promote", "--all", code=6)["schedules"]
    assert {answer["status"] for answer in refused} == {"refused"}
    answers = cutover(manage, "promote", "--all", "--force", "--reason", "a test")["schedules"]
    assert {(answer["status"], answer["handover"]["method"]) for answer in answers} == {("done", method)}
    wait_for_fires(rows, one, "pg", 3)
    sends = len(recorded(rows))
    wait_for_fires(rows, one, "pg", 2)
    assert len([send for send in recorded(rows)[sends:] if send["state"] == "sent"]) == 0
    answers = cutover(manage, "rollback", "--all")["schedules"]
    assert {answer["status"] for answer in answers} == {"done"}
    pgs = len(fires(rows, one, "pg"))
    wait_for_fires(rows, one, "beat", 3)
    assert len(fires(rows, one, "pg")) == pgs
    assert (stop(beat, rows) if beat_class == STOCK else beat.stop()) == 0
    assert scheduler.stop() == 0
    taken = [(str(send["schedule_id"]), send["scheduled_for"]) for send in recorded(rows) if send["state"] == "sent"]
    pg = [(each, at) for each in schedules for at in fires(rows, each, "pg")]
    assert len({*taken, *pg}) == len(taken) + len(pg)
    assert {each: breaks(rows, each) for each in schedules} == {each: [] for each in schedules}
