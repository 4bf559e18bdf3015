"""Real `celery beat` processes: what they send is in the ledger, nothing here stops them, and the gate does."""

from __future__ import annotations

import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.processes import Manage, RunningProcess
from tests.scheduler.rows import Rows

pytestmark = pytest.mark.processes

STOCK = "django_celery_beat.schedulers:DatabaseScheduler"
OURS = "scheduler.beat.gate:DownbeatScheduler"
GATE = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_SCHEDULER": json.dumps({"BEAT_MODE": "gate"})}
SENDS = re.compile(r"Sending due task (\S+)")
SECOND = timedelta(seconds=1)
SOON = 90
"""Seconds that nothing here takes, however slow the machine is."""
MAKE = """
import sys, django
django.setup()
from scheduler.api import create_schedule
for kind, expression in zip(sys.argv[1::2], sys.argv[2::2]):
    made = create_schedule(name="n", task="noop", kind=kind, expression=expression, firer="beat")
    print("made", made.pk)
"""
OF_NEW_YEARS_DAY = "crontab", "0 0-23 1 1 *"
SLEEPS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'beat' AND state = 'idle' AND datname = current_database()
      AND clock_timestamp() - state_change BETWEEN interval '50 ms' AND interval '250 ms'
"""
OWE = """
    UPDATE django_celery_beat_periodictask SET last_run_at = now() - interval '9000 hours' WHERE crontab_id IS NOT NULL
"""


def make(manage: Manage, *schedules: tuple[str, str]) -> list[str]:
    """Schedules that Beat fires; their ids. A crontab is due at once, once."""
    command = [sys.executable, "-c", MAKE, *itertools.chain(*schedules)]
    process = manage.launch(command)
    assert process.wait(SOON) == 0, process.output
    return re.findall(r"^made (\S+)$", process.stdout, re.MULTILINE)


def start(manage: Manage, scheduler: str = STOCK, **env: str) -> RunningProcess:
    command = [sys.executable, "-m", "celery", "-A", "backend", "beat", "-l", "INFO", "-S", scheduler]
    process = manage.launch(command, env={"PGAPPNAME": "beat", **env})
    process.wait_for_line("beat: Starting", SOON)
    return process


def stop(beat: RunningProcess, rows: Rows) -> int:
    """Stop it while it sleeps: stock Beat on psycopg 3 hangs where SIGTERM comes in the middle of a query."""
    wait_until(lambda: rows.count(SLEEPS), "Beat sleeps")
    return beat.stop()


def sent(beat: RunningProcess) -> Counter[str]:
    """How often Beat says that it sends each entry."""
    return Counter(name for line in list(beat.lines) for name in SENDS.findall(line.text))


def wait_until(is_true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SOON
    while not is_true():
        assert time.monotonic() < deadline, f"not within {SOON} s: {what}"
        time.sleep(0.05)


def wait_for_sends(beat: RunningProcess, more: int) -> None:
    before = sent(beat).total()
    wait_until(lambda: sent(beat).total() >= before + more, f"{more} more sends by {beat}:\n{beat.output}")


def recorded(rows: Rows) -> list[dict[str, Any]]:
    return rows.session.execute("SELECT * FROM scheduler_beatsend ORDER BY id").fetchall()


def test_everything_that_stock_beat_sends_is_recorded_for_its_occurrence(manage: Manage, rows: Rows) -> None:
    first, second, crontab = make(manage, ("interval", "PT1S"), ("interval", "PT1S"), OF_NEW_YEARS_DAY)
    rows.session.execute(OWE)
    beat = start(manage)
    wait_until(lambda: len(recorded(rows)) >= 9, "nine sends are recorded")
    assert stop(beat, rows) == 0
    sends = recorded(rows)
    assert Counter(send["beat_name"] for send in sends) == sent(beat)
    assert {(send["state"], send["is_first"]) for send in sends} == {("sent", True)}
    runs = {(str(run["schedule_id"]), run["scheduled_for"]): run for run in rows.runs()}
    assert len(runs) == len(sends)
    assert {runs[send["beat_name"], send["scheduled_for"]]["fired_at"] == send["sent_at"] for send in sends} == {True}
    for name in (first, second):
        mine = [send for send in sends if send["beat_name"] == name]
        assert [late["scheduled_for"] - early["sent_at"] for early, late in itertools.pairwise(mine)] == [
            SECOND for _ in mine[1:]
        ]
    assert [send["scheduled_for"].strftime("%m-%d") for send in sends if send["beat_name"] == crontab] == ["01-01"]
    [process] = rows.session.execute("SELECT * FROM scheduler_beatprocess").fetchall()
    assert (process["scheduler"], process["mode"], process["sends"]) == (STOCK, "observe", len(sends))
    assert process["stopped_at"] is not None


def test_stock_beat_goes_on_whatever_becomes_of_its_observer(manage: Manage, rows: Rows) -> None:
    make(manage, ("interval", "PT1S"))
    refused = start(manage, DOWNBEAT_DIRECT_DATABASE_URL="postgres://nobody@127.0.0.1:1/nothing", PGAPPNAME="refused")
    beat = start(manage)
    wait_until(lambda: recorded(rows), "a send is recorded")
    with rows.database.connect(autocommit=False) as other:
        other.execute("LOCK TABLE scheduler_beatsend, scheduler_beatprocess IN ACCESS EXCLUSIVE MODE")
        wait_for_sends(beat, 2)
    rows.session.execute("ALTER TABLE scheduler_beatsend RENAME TO elsewhere")
    wait_for_sends(beat, 2)
    rows.session.execute("ALTER TABLE elsewhere RENAME TO scheduler_beatsend")
    wait_until(lambda: len(recorded(rows)) >= 5, "what was sent meanwhile is recorded")
    assert len({send["process_id"] for send in recorded(rows)}) == 1
    assert {send["is_first"] for send in recorded(rows)} == {True}
    rows.session.execute("DROP TABLE scheduler_beatsend, scheduler_beatprocess")
    wait_for_sends(beat, 2)
    wait_for_sends(refused, 2)
    assert stop(beat, rows) == 0
    for process in (beat, refused):
        assert "beat.not_recording" in process.output
    assert "beat.sends_not_recorded" in beat.output


def test_the_gate_sends_nothing_that_it_cannot_claim_and_nothing_twice(manage: Manage, rows: Rows) -> None:
    claimable, taken = make(manage, OF_NEW_YEARS_DAY, OF_NEW_YEARS_DAY)
    rows.session.execute(OWE)
    rows.session.execute(
        """
        INSERT INTO scheduler_schedulerun (id, schedule_id, organization_id, scheduled_for, firer, state, fired_at)
        SELECT gen_random_uuid(), %s, 'default', date_trunc('year', now(), 'UTC') + interval '23 hours', 'pg', 'fired',
               now()
        """,
        [taken],
    )
    with rows.database.connect(autocommit=False) as other:
        other.execute("LOCK TABLE scheduler_beatsend IN ACCESS EXCLUSIVE MODE")
        beat = start(manage, OURS, **GATE)
        beat.wait_for_line("beat.not_claimed", SOON)
        assert sent(beat).total() == 0
    wait_until(lambda: {send["state"] for send in recorded(rows)} == {"sent", "refused"}, "both are settled")
    assert beat.stop() == 0
    states = {send["beat_name"]: (send["state"], send["is_first"]) for send in recorded(rows)}
    assert states == {claimable: ("sent", True), taken: ("refused", False)}
    assert sent(beat) == {claimable: 1}
    assert {str(run["schedule_id"]): run["firer"] for run in rows.runs()} == {claimable: "beat", taken: "pg"}


def test_a_beat_that_is_killed_between_claim_and_publishing_leaves_the_claim(manage: Manage, rows: Rows) -> None:
    (schedule_id,) = make(manage, OF_NEW_YEARS_DAY)
    rows.session.execute(OWE)
    dying = start(manage, "tests.scheduler.beat.dying:DyingScheduler", **GATE)
    assert dying.wait(SOON) == -9
    assert [(send["beat_name"], send["state"]) for send in recorded(rows)] == [(schedule_id, "claimed")]
    beat = start(manage, OURS, **GATE)
    beat.wait_for_line("beat.refused", SOON)
    assert beat.stop() == 0
    assert [send["state"] for send in recorded(rows)] == ["claimed", "refused"]
    assert sent(beat).total() == 0
