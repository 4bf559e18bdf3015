"""Real `run_scheduler` processes, seen from outside: what they cost while idle, and how soon they fire."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psutil
import psycopg

from benchmarks.databases import fill
from tests.processes import Manage, ProcessDatabase, RunningProcess

LEADS = r"^leader "
ENVIRONMENT = {"DOWNBEAT_LOG_LEVEL": "WARNING", "DJANGO_SETTINGS_MODULE": "benchmarks.settings"}
SETTLE_SECONDS = 5.0
"""After which a process has imported everything and its hourly duties have had their first round."""


@contextmanager
def schedulers(
    database: ProcessDatabase, count: int = 1, *, leaders_url: str | None = None
) -> Iterator[list[RunningProcess]]:
    """So many schedulers; the first leads, by way of `leaders_url` where that is given."""
    manage = Manage(database.url)
    try:
        started = []
        for number in range(count):
            started.append(manage("run_scheduler", env=ENVIRONMENT, url=None if number else leaders_url))
            started[-1].wait_for_line("^started " if number else LEADS)
        time.sleep(SETTLE_SECONDS)
        yield started
    finally:
        manage.clean_up()


@contextmanager
def worker(database: ProcessDatabase) -> Iterator[RunningProcess]:
    """A worker that waits, one child for each of two cores."""
    manage = Manage(database.url)
    try:
        started = manage("run_worker", "--concurrency=2", env=ENVIRONMENT)
        started.wait_for_line("^started ")
        yield started
    finally:
        manage.clean_up()


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
    add_intervals(session, clock(session))
    manage = Manage(database.url)
    try:
        began = time.monotonic()
        process = manage("run_scheduler", env=ENVIRONMENT)
        poll(lambda: one(session, "SELECT count(*) FROM pg_queue_message") > 0, timeout=60)
        fired = time.monotonic()
        up = next(line.at for line in process.lines if line.text.startswith("started"))
        return {"from_start": fired - began, "once_up": fired - up}
    finally:
        manage.clean_up()


def add_intervals(session: psycopg.Connection, first: datetime, count: int = 1, *, task: str = "noop") -> None:
    """So many schedules of one second, the first due at `first`, the others spread evenly over the second after it."""
    session.execute(
        """
        INSERT INTO scheduler_pgperiodicschedule
            (pipeline_id, beat_name, pipeline_name, kind, cron_string, interval_seconds, task, args, kwargs,
             next_run_at)
        SELECT id, id::text, 'one', 'interval', 'PT1S', 1, %(task)s, '[]', '{}',
               %(first)s + number * interval '1 s' / %(count)s
        FROM (SELECT gen_random_uuid() AS id, number FROM generate_series(0, %(count)s - 1) AS number) AS made
        """,
        {"task": task, "first": first, "count": count},
    )
    session.execute("NOTIFY downbeat_schedules")


def percentile(values: list[float], percent: int) -> float:
    """The value that so many percent of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))] if values else float("nan")


def median(values: list[float]) -> float:
    """The middle one."""
    return statistics.median(values) if values else float("nan")


def clock(session: psycopg.Connection) -> datetime:
    """The server's."""
    row = session.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def one(session: psycopg.Connection, query: str) -> int:
    """The one number that the query gives."""
    row = session.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def poll(is_there: Callable[[], bool], *, timeout: float) -> None:
    """Ask until it is true. Raises: TimeoutError after so many seconds."""
    deadline = time.monotonic() + timeout
    while not is_there():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s")
        time.sleep(0.003)
