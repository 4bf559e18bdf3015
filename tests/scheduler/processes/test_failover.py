"""Leaders that die, freeze and are cut off, as processes: the next due occurrence is fired, each once, none lost."""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.processes import LOCKED_HERE, Manage, ProcessDatabase, RunningProcess
from tests.scheduler.rows import Rows

pytestmark = pytest.mark.processes

LEADS = r"^leader "
SOON = 60
"""Seconds that nothing here takes, however slow the machine is."""
FIRED = "SELECT count(*) FROM scheduler_schedulerun WHERE state = 'fired'"


def start(manage: Manage) -> RunningProcess:
    """Start a scheduler, and wait until it stands."""
    process = manage("run_scheduler", "--no-reaper")
    process.wait_for_line(r"^started ")
    return process


def start_leader(manage: Manage) -> RunningProcess:
    """Start a scheduler where there is none, and wait until it leads."""
    leader = start(manage)
    leader.wait_for_line(LEADS)
    return leader


def start_standby(manage: Manage, rows: Rows) -> RunningProcess:
    """Start a scheduler beside a leader, and wait until it waits for the lead."""
    standby = start(manage)
    wait_until(lambda: rows.count(WAITS_FOR_THE_LEAD), SOON, "the standby waits for the lead")
    return standby


WAITS_FOR_THE_LEAD = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND {LOCKED_HERE}"


def start_pair(manage: Manage, rows: Rows) -> tuple[RunningProcess, RunningProcess]:
    """A leader and a standby."""
    return start_leader(manage), start_standby(manage, rows)


def add_every_second(rows: Rows, count: int = 1) -> list[uuid.UUID]:
    now = database_clock(rows)
    made = [rows.add_interval(1, next_run_at=now.replace(microsecond=0) + timedelta(seconds=1)) for _ in range(count)]
    rows.session.execute("NOTIFY downbeat_schedules")
    return made


def database_clock(rows: Rows) -> datetime:
    row = rows.session.execute("SELECT clock_timestamp() AS now").fetchone()
    assert row is not None
    now: datetime = row["now"]
    return now


def wait_until(is_true: Callable[[], Any], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def wait_for_fires(rows: Rows, more: int) -> None:
    before = rows.count(FIRED)
    wait_until(lambda: rows.count(FIRED) >= before + more, SOON, f"{more} more fires")


def assert_each_second_accounted_for_once(rows: Rows) -> None:
    """Fired and coalesced occurrences together are every second from the first to the last, without overlap."""
    for schedule in {run["schedule_id"] for run in rows.runs()}:
        seconds: list[datetime] = []
        for run in rows.runs(schedule):
            end = run["span_end"] or run["scheduled_for"]
            length = int((end - run["scheduled_for"]).total_seconds()) + 1
            assert length == run["occurrences"]
            seconds += [run["scheduled_for"] + timedelta(seconds=step) for step in range(length)]
        assert seconds == [seconds[0] + timedelta(seconds=step) for step in range(len(seconds))]


def assert_each_fire_has_one_message(rows: Rows) -> None:
    """While no worker runs: the fired runs and the messages are the same set."""
    fired = rows.count(FIRED)
    assert rows.count("SELECT count(*) FROM pg_queue_message") == fired
    assert rows.count("SELECT count(*) FROM pg_queue_message JOIN scheduler_schedulerun USING (id)") == fired


def test_when_the_leader_is_killed_the_standby_fires_the_next_occurrence(manage: Manage, rows: Rows) -> None:
    leader, standby = start_pair(manage, rows)
    add_every_second(rows, 3)
    wait_for_fires(rows, 3)
    leader.kill()
    standby.wait_for_line(LEADS)
    wait_for_fires(rows, 3)
    assert standby.stop() == 0
    assert_each_second_accounted_for_once(rows)
    assert_each_fire_has_one_message(rows)


MILLISECONDS_NOBODY_LED = "SELECT extract(epoch FROM since - previous_heartbeat_at) * 1000 FROM pg_queue_leader"


def test_a_clean_stop_hands_over_at_once(manage: Manage, rows: Rows) -> None:
    leader, standby = start_pair(manage, rows)
    add_every_second(rows)
    gaps: list[int] = []
    while len(gaps) < 5 and min(gaps, default=1_000) >= 500:  # a slow machine may spoil some, but not all
        wait_for_fires(rows, 1)
        assert leader.stop() == 0
        standby.wait_for_line(LEADS)
        gaps.append(rows.count(MILLISECONDS_NOBODY_LED))
        leader, standby = standby, start_standby(manage, rows)
    assert min(gaps) < 1_000
    wait_for_fires(rows, 2)
    assert [standby.stop(), leader.stop()] == [0, 0]
    assert_each_second_accounted_for_once(rows)
    assert_each_fire_has_one_message(rows)


def test_when_an_idle_leader_freezes_it_is_replaced_and_finds_itself_replaced_when_it_thaws(
    manage: Manage, rows: Rows
) -> None:
    leader, standby = start_pair(manage, rows)
    leader.freeze()
    standby.wait_for_line(LEADS)
    add_every_second(rows)
    wait_for_fires(rows, 2)
    seen = len(leader.lines)
    leader.thaw()
    leader.wait_for_line(r"leader\.session_lost", after=seen)
    wait_for_fires(rows, 2)
    assert standby.stop() == 0
    leader.wait_for_line(LEADS, after=seen)
    wait_for_fires(rows, 2)
    assert leader.stop() == 0
    assert_each_second_accounted_for_once(rows)
    assert_each_fire_has_one_message(rows)


@contextmanager
def tick_held_at_the_message(process_database: ProcessDatabase) -> Iterator[None]:
    """While it lasts a tick stops in the middle of its writing statement, its schedules and runs already written."""
    with process_database.connect() as gate:
        gate.execute(
            """
            CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM pg_advisory_xact_lock_shared(42);
                RETURN NULL;
            END $$;
            CREATE TRIGGER gate AFTER INSERT ON pg_queue_message FOR EACH STATEMENT EXECUTE FUNCTION wait_at_gate();
            SELECT pg_advisory_lock(42);
            """
        )
        yield
        gate.execute("SELECT pg_advisory_unlock(42); DROP TRIGGER gate ON pg_queue_message")


IS_AT_GATE = (
    f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted AND {LOCKED_HERE}"
)


def freeze_at_gate(leader: RunningProcess, rows: Rows) -> None:
    """Freeze the leader while its tick is held; a tick that was cut off for that, after 3 s, is made again."""
    while True:
        wait_until(lambda: rows.count(IS_AT_GATE) == 1, SOON, "the tick is held")
        leader.freeze()
        if rows.count(IS_AT_GATE) == 1:
            return
        leader.thaw()


def test_a_leader_frozen_in_the_middle_of_a_tick_is_replaced_and_what_it_had_in_hand_is_never_committed(
    manage: Manage, rows: Rows, process_database: ProcessDatabase
) -> None:
    leader, standby = start_pair(manage, rows)
    with tick_held_at_the_message(process_database):
        add_every_second(rows, 5)
        freeze_at_gate(leader, rows)
        frozen_term = rows.count("SELECT term FROM pg_queue_leader")
    # The gate is open: the server finishes the statement, and the frozen leader never says commit.
    standby.wait_for_line(LEADS)
    wait_for_fires(rows, 5)
    before_thaw = {run["id"] for run in rows.runs()}
    seen = len(leader.lines)
    leader.thaw()
    leader.wait_for_line(r"leader\.session_lost", after=seen)
    wait_for_fires(rows, 5)
    assert standby.stop() == 0
    leader.stop()
    assert frozen_term not in {run["term"] for run in rows.runs() if run["id"] in before_thaw}
    assert_each_second_accounted_for_once(rows)
    assert_each_fire_has_one_message(rows)


def test_a_leader_whose_connection_is_dropped_stands_again_and_loses_nothing(manage: Manage, rows: Rows) -> None:
    leader = start_leader(manage)
    add_every_second(rows, 2)
    for _ in range(3):
        wait_for_fires(rows, 2)
        seen = len(leader.lines)
        rows.session.execute("SELECT pg_terminate_backend(pid) FROM pg_queue_leader")
        leader.wait_for_line(LEADS, after=seen)
    wait_for_fires(rows, 2)
    assert leader.stop() == 0
    assert rows.count("SELECT max(term) FROM pg_queue_leader") >= 4
    assert_each_second_accounted_for_once(rows)
    assert_each_fire_has_one_message(rows)


def seconds_until_fired(rows: Rows) -> float:
    """Announce a schedule that is due now and then in a year, and wait for its fire; by the database's clock."""
    schedule_id = rows.add(cron_string="0 0 1 1 *", next_run_at=database_clock(rows))
    announced_at = database_clock(rows)
    rows.session.execute("NOTIFY downbeat_schedules")
    wait_until(lambda: rows.runs(schedule_id), SOON, "an announced row is fired")
    [run] = rows.runs(schedule_id)
    return float((run["fired_at"] - announced_at).total_seconds())


def test_a_change_is_seen_at_once_and_a_row_written_behind_its_back_within_a_stamp(manage: Manage, rows: Rows) -> None:
    leader = start_leader(manage)
    delays = [seconds_until_fired(rows) for _ in range(9)]
    assert statistics.median(delays) < 1, delays  # unheard, a change waits for the stamp after 2 s
    rows.add(next_run_at=database_clock(rows).replace(second=0, microsecond=0))
    wait_until(
        lambda: rows.count(
            "SELECT count(*) FROM scheduler_pgperiodicschedule WHERE kind = 'crontab' AND last_run_at IS NOT NULL"
        ),
        SOON,
        "an unannounced row is fired",
    )
    assert leader.stop() == 0


def test_a_due_row_that_somebody_holds_does_not_spin_the_loop(
    manage: Manage, rows: Rows, process_database: ProcessDatabase
) -> None:
    schedule_id = rows.add(next_run_at=database_clock(rows).replace(second=0, microsecond=0))
    count_stamps(rows)
    with process_database.connect() as editor, editor.transaction():
        editor.execute("SELECT FROM scheduler_pgperiodicschedule WHERE pipeline_id = %s FOR UPDATE", [schedule_id])
        leader = start_leader(manage)
        wait_until(lambda: rows.count(STAMPS) > 0, SOON, "the first pass is made")
        began_at, first = database_clock(rows), rows.count(STAMPS)
        wait_until(lambda: rows.count(STAMPS) >= first + 10 * STAMPS_OF_A_TURN, SOON, "ten passes more are made")
        # The waits between them double from 0.02 s to 0.5 s: 3.1 s in all, or more.
        assert database_clock(rows) - began_at > timedelta(seconds=2.5)
        assert rows.runs() == []
    wait_until(lambda: rows.runs(schedule_id), SOON, "the row is fired once it is free")
    assert leader.stop() == 0


def count_stamps(rows: Rows) -> None:
    """Have the database count the leader's stamps, of which each pass makes one, the shadow's too, committed or not."""
    rows.session.execute(
        """
        CREATE SEQUENCE stamps;
        CREATE FUNCTION count_stamp() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN PERFORM nextval('stamps'); RETURN NULL; END $$;
        CREATE TRIGGER count_stamp AFTER UPDATE ON pg_queue_leader FOR EACH ROW EXECUTE FUNCTION count_stamp();
        """
    )


STAMPS_OF_A_TURN = 2
STAMPS = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM stamps"


def test_once_makes_one_pass_and_says_so_in_json_and_leaves_it_to_a_leader_where_there_is_one(
    manage: Manage, rows: Rows
) -> None:
    rows.add(next_run_at=database_clock(rows).replace(second=0, microsecond=0))
    alone = manage.run("run_scheduler", "--once", "--json")
    assert alone.returncode == 0
    events = {line["event"]: line for line in map(json.loads, alone.stdout.splitlines())}
    assert events["passed"]["fired"] == 1

    leader = start_leader(manage)
    beside = manage.run("run_scheduler", "--once", "--json", "--no-reaper")
    assert beside.returncode == 0
    events = {line["event"]: line for line in map(json.loads, beside.stdout.splitlines())}
    assert events["skipped"]["term"] == 2
    assert leader.stop() == 0


def test_health_tells_the_role_and_metrics_tell_the_fires(manage: Manage, rows: Rows) -> None:
    leader = manage("run_scheduler", "--health-port", "0")
    port = leader.wait_for_line(r"^started .*health_port=(\d+)")[1]
    leader.wait_for_line(LEADS)
    add_every_second(rows)
    wait_for_fires(rows, 1)

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=SOON) as answer:
            return str(answer.read().decode())

    assert json.loads(get("/healthz"))["status"] == "ok"
    seen: list[tuple[dict[str, Any], str]] = []

    def has_told() -> bool:
        """Both of one term: a machine that stalls may lose a term in between, and win the next."""
        before, metrics, after = json.loads(get("/readyz")), get("/metrics"), json.loads(get("/readyz"))
        seen.append((before, metrics))
        return bool(before == after and before["role"] == "leader")

    wait_until(has_told, SOON, "it leads")
    ready, metrics = seen[-1]
    assert (ready["status"], ready["term"] >= 1) == ("ready", True)
    for line in (
        "downbeat_scheduler_is_leader 1.0",
        f"downbeat_scheduler_term {ready['term']}.0",
        "downbeat_schedules_quarantined 0.0",
    ):
        assert line in metrics
    assert 'downbeat_occurrences_total{outcome="fired"}' in metrics
    assert "downbeat_due_lag_seconds" in metrics
    assert leader.stop() == 0


def test_an_occurrence_that_queues_is_fired_soon_after_the_run_before_has_ended(manage: Manage, rows: Rows) -> None:
    scheduler = start(manage)
    scheduler.wait_for_line("leader")
    schedule = rows.add_interval(1, next_run_at=database_clock(rows), overlap="queue")
    rows.session.execute("NOTIFY downbeat_schedules")
    wait_until(lambda: rows.get(schedule)["hold"] == "overlap", 60, "the second occurrence waits")
    assert len(rows.messages()) == 1
    rows.session.execute("DELETE FROM pg_queue_message")
    wait_until(lambda: len(rows.messages()) == 1, 60, "it is fired")
    assert len([run for run in rows.runs(schedule) if run["state"] == "fired"]) == 2
