"""How late: from the instant at which something is due, or changed, to what others see of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import psycopg

from benchmarks.databases import empty, fill
from benchmarks.services import add_intervals, clock, one, poll, schedulers, worker
from tests.processes import ProcessDatabase

DUE_PER_SECOND = 5
"""Schedules of one second, 200 ms apart: one due at a time, and the leader asleep before each."""
FIRED = "SELECT 1 FROM scheduler_schedulerun WHERE schedule_id = %s AND fired_at IS NOT NULL"
WARM_UP = 10
"""The first samples are left out: they pay for what each process does once."""


def burst_lag_seconds(database: ProcessDatabase, session: psycopg.Connection, count: int) -> float:
    """From the due instant, a whole second, until the last of `count` messages is committed, by the server's clock."""
    empty(session)
    with schedulers(database):
        due_at = clock(session).replace(microsecond=0) + timedelta(seconds=10 + count / 20_000)
        fill(session, count, due_at)
        assert clock(session) < due_at, "the fill took too long"
        session.execute("NOTIFY downbeat_schedules")
        poll(lambda: one(session, "SELECT count(*) FROM pg_queue_message") >= count, timeout=120)
        return (clock(session) - due_at).total_seconds()


def enqueued_lags_ms(database: ProcessDatabase, session: psycopg.Connection, samples: int) -> list[float]:
    """One due at a time, otherwise idle: milliseconds from each due instant until a waiting session is notified.

    A notification tells that the transaction is committed; the ledger then says whose due instants it was.
    """
    empty(session)
    lags: list[float] = []
    with schedulers(database), database.connect() as listener:
        listener.execute("LISTEN pg_queue")
        ahead, last = clock_ahead(session), clock(session)
        add_intervals(session, _soon(session), DUE_PER_SECOND)
        for _ in listener.notifies(timeout=_timeout(samples)):
            seen_at = datetime.now(UTC) + ahead
            found = session.execute(
                "SELECT scheduled_for FROM scheduler_schedulerun WHERE scheduled_for > %s ORDER BY 1", [last]
            ).fetchall()
            for (last,) in found:
                lags.append((seen_at - last).total_seconds() * 1000)
            if len(lags) >= samples + WARM_UP:
                break
    empty(session)
    return lags[WARM_UP:]


def started_lags_ms(database: ProcessDatabase, session: psycopg.Connection, samples: int) -> list[float]:
    """The same with a worker that waits: milliseconds from each due instant until the task's first line runs."""
    empty(session)
    with schedulers(database), worker(database):
        ahead = clock_ahead(session)
        add_intervals(session, _soon(session), DUE_PER_SECOND, task="bench.begun_at")
        enough = samples + WARM_UP
        poll(lambda: one(session, "SELECT count(*) FROM pg_queue_result") >= enough, timeout=_timeout(samples))
        rows = session.execute(
            """
            SELECT run.scheduled_for, (result.value #>> '{}')::float8
            FROM scheduler_schedulerun AS run JOIN pg_queue_result AS result ON result.message_id = run.id
            ORDER BY run.scheduled_for
            """
        ).fetchall()
    empty(session)
    lags = [(datetime.fromtimestamp(begun, UTC) + ahead - due).total_seconds() * 1000 for due, begun in rows]
    return lags[WARM_UP:enough]


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
            for _ in listener.notifies(timeout=10):
                seen_at = time.perf_counter()
                if session.execute(FIRED, [schedule_id]).fetchone():  # else another one came due by itself
                    break
            else:
                raise TimeoutError("the change was not fired within 10 s")
            lags.append((seen_at - changed_at) * 1000)
            time.sleep(0.1)
    return lags


def clock_ahead(session: psycopg.Connection) -> timedelta:
    """How far the server's clock is ahead of this machine's: next to nothing when they are the same."""
    found = []
    for _ in range(20):
        before = datetime.now(UTC)
        there = clock(session)
        after = datetime.now(UTC)
        found.append((after - before, there - before - (after - before) / 2))
    return min(found)[1]


def _soon(session: psycopg.Connection) -> datetime:
    return clock(session).replace(microsecond=0) + timedelta(seconds=2)


def _timeout(samples: int) -> float:
    return samples / DUE_PER_SECOND * 2 + 30
