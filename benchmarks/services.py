"""Real `run_scheduler` processes, seen from outside."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psutil
import psycopg

from benchmarks.databases import empty, fill
from tests.processes import Manage, ProcessDatabase, RunningProcess

LEADS = r"^leader "
QUIET = {"DOWNBEAT_LOG_LEVEL": "WARNING"}


@contextmanager
def schedulers(database: ProcessDatabase, count: int = 1) -> Iterator[list[RunningProcess]]:
    """So many schedulers; the first leads."""
    manage = Manage(database.url)
    try:
        started = []
        for number in range(count):
            started.append(manage("run_scheduler", env=QUIET))
            started[-1].wait_for_line(LEADS if number == 0 else "^started ")
        time.sleep(2)  # imports and first rounds of the duties are over
        yield started
    finally:
        manage.clean_up()


def burst_lag_seconds(database: ProcessDatabase, session: psycopg.Connection, count: int) -> float:
    """From the due instant, a whole second, until the last of `count` messages is committed, by the server's clock."""
    empty(session)
    with schedulers(database):
        due_at = _clock(session).replace(microsecond=0) + timedelta(seconds=10 + count / 20_000)
        fill(session, count, due_at)
        assert _clock(session) < due_at, "the fill took too long"
        session.execute("NOTIFY downbeat_schedules")
        return _poll(
            session,
            lambda: (_one(session, "SELECT count(*) FROM pg_queue_message") >= count, _clock(session) - due_at),
            timeout=120,
        )


def single_lags_ms(database: ProcessDatabase, session: psycopg.Connection, seconds: int) -> list[float]:
    """One schedule of one second, otherwise idle: milliseconds from each due instant to the workers' wake-up."""
    empty(session)
    with schedulers(database), database.connect() as listener:
        listener.execute("LISTEN pg_queue")
        first = _clock(session).replace(microsecond=0) + timedelta(seconds=2)
        add_interval(session, first)
        lags = []
        for _ in listener.notifies(timeout=seconds + 3, stop_after=seconds):
            lags.append(time.time() % 1 * 1000)
        empty(session)
    return lags


def change_lags_ms(database: ProcessDatabase, session: psycopg.Connection, count: int, changes: int) -> list[float]:
    """One of `count` schedules is made due now, and announced: milliseconds until its message wakes the workers."""
    fill(session, count, datetime.now().astimezone() + timedelta(days=1))
    ids = [
        row[0] for row in session.execute("SELECT pipeline_id FROM scheduler_pgperiodicschedule LIMIT %s", [changes])
    ]
    lags = []
    with schedulers(database), database.connect() as listener:
        listener.execute("LISTEN pg_queue")
        for schedule_id in ids:
            with session.transaction():
                session.execute(
                    "UPDATE scheduler_pgperiodicschedule SET next_run_at = now() WHERE pipeline_id = %s", [schedule_id]
                )
                session.execute("NOTIFY downbeat_schedules")
            changed_at = time.perf_counter()
            list(listener.notifies(timeout=10, stop_after=1))
            lags.append((time.perf_counter() - changed_at) * 1000)
            time.sleep(0.2)
    return lags


def idle_figures(database: ProcessDatabase, session: psycopg.Connection, count: int, seconds: float) -> dict[str, Any]:
    """CPU in percent of a core and memory in MB of an idle leader and standby with `count` schedules."""
    fill(session, count, datetime.now().astimezone() + timedelta(days=1))
    with schedulers(database, 2) as processes:
        watched = [psutil.Process(process.pid) for process in processes]
        before = [sum(process.cpu_times()[:2]) for process in watched]
        time.sleep(seconds)
        after = [sum(process.cpu_times()[:2]) for process in watched]
        return {
            role: {
                "cpu_percent": (end - start) / seconds * 100,
                "rss_mb": process.memory_info().rss / 2**20,
                "uss_mb": process.memory_full_info().uss / 2**20,
            }
            for role, process, start, end in zip(("leader", "standby"), watched, before, after, strict=True)
        }


def start_to_first_fire_seconds(database: ProcessDatabase, session: psycopg.Connection, count: int) -> dict[str, float]:
    """One of `count` schedules is overdue: seconds to its message from the process's start, and from its first line."""
    fill(session, count, datetime.now().astimezone() + timedelta(days=1))
    add_interval(session, _clock(session))
    manage = Manage(database.url)
    try:
        began = time.monotonic()
        process = manage("run_scheduler", env=QUIET)
        _poll(session, lambda: (_one(session, "SELECT count(*) FROM pg_queue_message") > 0, timedelta()), timeout=60)
        fired = time.monotonic()
        up = next(line.at for line in process.lines if line.text.startswith("started"))
        return {"from_start": fired - began, "once_up": fired - up}
    finally:
        manage.clean_up()


def failover_seconds(
    database: ProcessDatabase, session: psycopg.Connection, end: Callable[[RunningProcess], None]
) -> float:
    """A schedule of one second: from the leader's end until the next fire."""
    empty(session)
    with schedulers(database, 2) as (leader, _):
        add_interval(session, _clock(session))
        session.execute("NOTIFY downbeat_schedules")
        _poll(session, lambda: (_one(session, "SELECT count(*) FROM pg_queue_message") > 1, timedelta()), timeout=20)
        end(leader)
        ended, before = time.monotonic(), _one(session, "SELECT count(*) FROM pg_queue_message")
        _poll(
            session, lambda: (_one(session, "SELECT count(*) FROM pg_queue_message") > before, timedelta()), timeout=60
        )
        return time.monotonic() - ended


def add_interval(session: psycopg.Connection, first: datetime) -> None:
    """A schedule of one second."""
    session.execute(
        """
        INSERT INTO scheduler_pgperiodicschedule
            (pipeline_id, beat_name, pipeline_name, kind, cron_string, interval_seconds, task, args, kwargs,
             next_run_at)
        SELECT id, id::text, 'one', 'interval', 'PT1S', 1, 'noop', '[]', '{}', %s FROM gen_random_uuid() AS id
        """,
        [first],
    )


def percentile(values: list[float], percent: int) -> float:
    """The value that so many percent of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))] if values else float("nan")


def median(values: list[float]) -> float:
    """The middle one."""
    return statistics.median(values) if values else float("nan")


def _clock(session: psycopg.Connection) -> datetime:
    row = session.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def _one(session: psycopg.Connection, query: str) -> int:
    row = session.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _poll(session: psycopg.Connection, look: Callable[[], tuple[bool, timedelta]], *, timeout: float) -> float:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        is_there, lag = look()
        if is_there:
            return lag.total_seconds()
        time.sleep(0.003)
    raise TimeoutError(f"not within {timeout} s")
