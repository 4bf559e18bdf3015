"""What users of Celery Beat complain of most, each by the number of its issue, as it is here.

`celery` is celery/celery, `dcb` celery/django-celery-beat. docs/howto/migrate-from-beat.md lists them.
"""

from __future__ import annotations

import json
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from scheduler.recurrence import next_occurrences
from scheduler.tick import Tick, make_tick
from tests.processes import Manage, ProcessDatabase
from tests.scheduler.rows import Rows, lead

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")


def fired(rows: Rows, schedule_id: uuid.UUID) -> list[datetime]:
    """The occurrences that were fired."""
    return [run["scheduled_for"] for run in rows.runs(schedule_id) if run["state"] == "fired"]


def run_through(tick: Tick, rows: Rows, schedule_id: uuid.UUID, until: datetime) -> list[datetime]:
    """Tick at each instant at which it is due, as a leader does; the wall clock of Berlin at each fire."""
    while (due := rows.get(schedule_id)["next_run_at"]) < until:
        tick.run(at=due)
    return [at.astimezone(BERLIN) for at in fired(rows, schedule_id)]


def test_celery_2856_a_second_scheduler_doubles_nothing(process_database: ProcessDatabase, rows: Rows) -> None:
    schedule_id = rows.add(next_run_at=NOON)
    with lead(process_database, "first") as one, lead(process_database, "second") as other:
        make_tick(one).run(at=NOON)
        rows.change(schedule_id, next_run_at=NOON)  # as the second had read it before
        assert make_tick(other).run(at=NOON).taken == 1
    assert fired(rows, schedule_id) == [NOON]
    assert len(rows.messages()) == 1


def test_celery_4041_and_4806_an_old_last_run_causes_no_storm(tick: Tick, rows: Rows) -> None:
    year_ago = NOON - 365 * DAY
    ids = [rows.add(next_run_at=year_ago, last_run_at=year_ago) for _ in range(3)]
    for seconds in range(5):
        tick.run(at=NOON + seconds * SECOND)
    assert [fired(rows, schedule_id) for schedule_id in ids] == [[NOON]] * 3


def test_dcb_134_and_604_a_daily_job_stays_at_its_hour_across_clock_changes(tick: Tick, rows: Rows) -> None:
    for start in (datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 10, 23, tzinfo=UTC)):
        [first] = next_occurrences(
            kind="crontab", expression="0 9 * * *", timezone="Europe/Berlin", after=start, count=1
        )
        schedule_id = rows.add(cron_string="0 9 * * *", timezone="Europe/Berlin", next_run_at=first)
        local = run_through(tick, rows, schedule_id, first + 3 * DAY + 2 * HOUR)
        assert [(at.day, at.hour, at.minute) for at in local] == [
            ((first + n * DAY).astimezone(BERLIN).day, 9, 0) for n in range(4)
        ]


def test_celery_6438_and_10107_no_hour_is_skipped_or_repeated_by_a_clock_change(tick: Tick, rows: Rows) -> None:
    autumn = datetime(2026, 10, 24, 22, 0, tzinfo=UTC)
    hourly = rows.add(cron_string="0 * * * *", timezone="Europe/Berlin", next_run_at=autumn)
    assert [at.hour for at in run_through(tick, rows, hourly, autumn + 5 * HOUR)] == [0, 1, 2, 2, 3]
    spring = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    nightly = rows.add(cron_string="30 2 * * *", timezone="Europe/Berlin", next_run_at=spring)
    assert [(at.day, at.hour, at.minute) for at in run_through(tick, rows, nightly, spring + DAY)] == [
        (29, 3, 0),
        (30, 2, 30),
    ]


@pytest.mark.processes
def test_dcb_35_558_and_677_a_change_of_one_schedule_neither_sends_nor_blocks_any(
    tick: Tick, rows: Rows, manage: Manage
) -> None:
    ahead = datetime.now(UTC) + HOUR
    changed, other = (rows.add(cron_string="0 3 * * *", next_run_at=ahead) for _ in range(2))
    for action in (["pause", str(changed)], ["resume", str(changed)]):
        assert manage.run("schedules", *action).returncode == 0
    tick.run()
    assert rows.messages() == []
    assert rows.get(other)["next_run_at"] == ahead
    tick.run(at=ahead)
    assert fired(rows, other) == [ahead]


def test_dcb_956_what_came_due_in_an_outage_is_fired_after_it_or_accounted_for(tick: Tick, rows: Rows) -> None:
    nine = NOON - 3 * HOUR
    within = rows.add(cron_string="0 9 * * *", next_run_at=nine, grace_seconds=4 * 3600)
    beyond = rows.add(cron_string="0 9 * * *", next_run_at=nine, grace_seconds=3600)
    tick.run(at=NOON)
    assert fired(rows, within) == [nine]
    assert [(run["state"], run["scheduled_for"]) for run in rows.runs(beyond)] == [("no_leader", nine)]
    for schedule_id in (within, beyond):
        assert rows.get(schedule_id)["next_run_at"] == nine + DAY


@pytest.mark.processes
def test_dcb_537_resuming_does_not_fire_at_once(tick: Tick, rows: Rows, manage: Manage) -> None:
    week_ago = datetime.now(UTC) - 7 * DAY
    schedule_id = rows.add(cron_string="0 3 1 1 *", next_run_at=week_ago, enabled=False, paused_at=week_ago)
    assert manage.run("schedules", "resume", str(schedule_id)).returncode == 0
    tick.run()
    assert fired(rows, schedule_id) == []
    assert rows.get(schedule_id)["next_run_at"] > datetime.now(UTC)


def test_dcb_634_a_long_interval_runs_however_often_the_scheduler_is_deployed(
    process_database: ProcessDatabase, rows: Rows
) -> None:
    schedule_id = rows.add_interval(DAY.total_seconds(), next_run_at=NOON + DAY)
    for hours in range(0, 49, 6):
        with lead(process_database) as leadership:  # each time a new process
            make_tick(leadership).run(at=NOON + hours * HOUR)
    assert fired(rows, schedule_id) == [NOON + DAY, NOON + 2 * DAY]


@pytest.mark.postgresql("psycopg's statements are counted; SQLite's are in test_sqlite.py")
def test_dcb_454_675_and_958_thousands_of_rows_cost_no_more_statements(
    tick: Tick, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.add_many(5_000, NOON)
    statements = 0
    execute = tick._session.execute

    def count(*arguments: object, **options: object) -> object:
        nonlocal statements
        statements += 1
        return execute(*arguments, **options)

    monkeypatch.setattr(tick._session, "execute", count)
    assert tick.run(at=NOON).fired == 5_000
    assert statements < 100


@pytest.mark.postgresql("SQLite has one writer at a time, and locks no rows")
def test_dcb_671_one_locked_row_holds_up_no_other_and_takes_no_connection(
    tick: Tick, rows: Rows, process_database: ProcessDatabase
) -> None:
    held, *others = (rows.add(next_run_at=NOON) for _ in range(20))
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    with process_database.connect(autocommit=False) as somebody:
        somebody.execute("SELECT 1 FROM scheduler_pgperiodicschedule WHERE pipeline_id = %s FOR UPDATE", [held])
        before = rows.count(sessions)
        assert [tick.run(at=NOON).fired, tick.run(at=NOON).fired] == [19, 0]
        assert rows.count(sessions) <= before
    assert tick.run(at=NOON).fired == 1
    assert all(fired(rows, schedule_id) == [NOON] for schedule_id in (held, *others))


def test_dcb_828_a_one_off_does_not_run_again_after_a_restart(process_database: ProcessDatabase, rows: Rows) -> None:
    once = rows.add(next_run_at=NOON, run_limit=1)
    clocked = rows.add(kind="clocked", cron_string="2026-03-10T12:00:00Z", next_run_at=NOON)
    for minutes in range(3):
        with lead(process_database) as leadership:  # each time a new process
            make_tick(leadership).run(at=NOON + minutes * MINUTE)
    assert fired(rows, once) == fired(rows, clocked) == [NOON]


@pytest.mark.processes
def test_celery_4079_a_scheduler_says_whether_it_lives(manage: Manage) -> None:
    scheduler = manage("run_scheduler", "--health-port", "0")
    port = scheduler.wait_for_line(r"health_port=(\d+)")[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60) as answer:
        assert answer.status == 200
    scheduler.wait_for_line("leader")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60) as answer:
        assert json.load(answer)["role"] == "leader"
