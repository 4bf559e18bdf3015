"""Two leaders at once, as processes, every lock between them bypassed: the ledger's key alone keeps each fire single.

They stand in two elections, so that both lead. Each has the schedules' table for itself, a copy, so that neither sees
what the other has locked and advanced: both come to each occurrence, often in the same instant. Ledger and queue are
shared.
"""

from __future__ import annotations

import sys
from collections import Counter
from datetime import datetime, timedelta
from urllib.parse import quote

import pytest

from tests.processes import Manage, ProcessDatabase, RunningProcess
from tests.scheduler.processes.test_failover import (
    LEADS,
    SOON,
    assert_each_fire_has_one_message,
    database_clock,
    start_leader,
    wait_until,
)
from tests.scheduler.rows import Rows

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

SCHEDULES, SECONDS = 20, 8
DECIDED_UNTIL = (
    "SELECT least((SELECT min(next_run_at) FROM public.{0}), (SELECT min(next_run_at) FROM second.{0})) AS at"
)
TABLE, SCHEMAS = "scheduler_pgperiodicschedule", ("public", "second")


def start_usurper(manage: Manage, database: ProcessDatabase) -> RunningProcess:
    """A second leader, which finds the schedules in the schema `second`, and all else where everybody does."""
    separator = "&" if "?" in database.url else "?"
    url = f"{database.url}{separator}options={quote('-c search_path=second,public')}"
    command = [sys.executable, "-m", "tests.scheduler.processes.usurper", "run_scheduler", "--no-reaper"]
    usurper = manage.launch(command, url=url)
    usurper.wait_for_line(LEADS)
    return usurper


def add_to_both(rows: Rows) -> datetime:
    """Schedules of one second, the same for both leaders, from the instant that is returned on."""
    start = database_clock(rows).replace(microsecond=0) + timedelta(seconds=2)
    with rows.session.transaction():
        for _ in range(SCHEDULES):
            rows.add_interval(1, next_run_at=start)
        rows.session.execute(f"INSERT INTO second.{TABLE} SELECT * FROM public.{TABLE}")
        rows.session.execute("NOTIFY downbeat_schedules")
    return start


def decided_until(rows: Rows) -> datetime:
    row = rows.session.execute(DECIDED_UNTIL.format(TABLE)).fetchone()
    assert row is not None
    at: datetime = row["at"]
    return at


def test_two_leaders_that_come_to_the_same_occurrences_fire_each_once(
    manage: Manage, rows: Rows, process_database: ProcessDatabase
) -> None:
    rows.session.execute(f"CREATE SCHEMA second; CREATE TABLE second.{TABLE} (LIKE public.{TABLE} INCLUDING ALL)")
    leaders = [start_leader(manage), start_usurper(manage, process_database)]
    start = add_to_both(rows)
    end = start + timedelta(seconds=SECONDS)
    wait_until(lambda: decided_until(rows) >= end, SOON, f"both have decided on {SECONDS} s")
    for schema in SCHEMAS:
        rows.session.execute(f"UPDATE {schema}.{TABLE} SET enabled = false")
    assert [leader.stop() for leader in leaders] == [0, 0]
    assert rows.count("SELECT count(*) FROM pg_queue_leader") == 2

    runs = rows.runs()
    fired = Counter((run["schedule_id"], run["scheduled_for"]) for run in runs if run["state"] == "fired")
    enqueued = Counter(
        (message["headers"]["schedule_id"], datetime.fromisoformat(message["headers"]["scheduled_for"]))
        for message in rows.messages()
    )
    assert set(fired.values()) == {1}
    assert sum(rows.count(f"SELECT sum(run_count) FROM {schema}.{TABLE}") for schema in SCHEMAS) == len(fired)
    assert enqueued == Counter({(str(schedule), at): 1 for schedule, at in fired})
    assert_each_fire_has_one_message(rows)
    recorded = {
        (run["schedule_id"], run["scheduled_for"] + timedelta(seconds=step))
        for run in runs
        for step in range(run["occurrences"])
    }
    schedules = {run["schedule_id"] for run in runs}
    assert len(schedules) == SCHEDULES
    assert {(schedule, start + timedelta(seconds=s)) for schedule in schedules for s in range(SECONDS)} <= recorded
