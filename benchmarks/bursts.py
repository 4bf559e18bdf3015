"""The tick itself, in this process, and the bare statements that it is compared with."""

from __future__ import annotations

import time

import psycopg

from benchmarks.databases import empty, fill, settle
from pg_queue.leader import PostgresElection
from scheduler.tick import make_tick
from tests.processes import ProcessDatabase

NARROW_TABLES = """
    CREATE TABLE IF NOT EXISTS bare_schedule (
        id bigserial PRIMARY KEY, queue text, payload jsonb, next_run_at timestamptz
    ) WITH (fillfactor = 70);
    CREATE INDEX IF NOT EXISTS bare_schedule_due ON bare_schedule (next_run_at);
    CREATE TABLE IF NOT EXISTS bare_message (
        id bigserial PRIMARY KEY, queue text NOT NULL, payload jsonb NOT NULL, priority smallint NOT NULL DEFAULT 0,
        run_after timestamptz NOT NULL DEFAULT now(), lease_until timestamptz
    ) WITH (fillfactor = 70);
    CREATE INDEX IF NOT EXISTS bare_message_ready ON bare_message (queue, priority DESC, run_after, id)
        WHERE lease_until IS NULL;
    TRUNCATE bare_schedule, bare_message
"""
NARROW_FILL = """
    INSERT INTO bare_schedule (queue, payload, next_run_at)
    SELECT 'default', '{"tenant": 1}', now() - interval '1 s' FROM generate_series(1, %s)
"""
NARROW_FIRE = """
    WITH due AS (
        UPDATE bare_schedule SET next_run_at = next_run_at + interval '1 min' WHERE next_run_at <= now()
        RETURNING queue, payload
    )
    INSERT INTO bare_message (queue, payload) SELECT queue, payload FROM due
"""
OWN_FIRE = """
    WITH due AS (
        UPDATE scheduler_pgperiodicschedule SET next_run_at = next_run_at + interval '1 min'
        WHERE enabled AND firer = 'pg' AND quarantined_at IS NULL AND next_run_at <= now()
        RETURNING queue, priority, task, args, kwargs, organization_id
    )
    INSERT INTO pg_queue_message (queue, priority, task, args, kwargs, headers, organization_id, max_attempts)
    SELECT queue, priority, task, args, kwargs, '{}', organization_id, 3 FROM due
"""


def tick_seconds(database: ProcessDatabase, session: psycopg.Connection, count: int) -> float:
    """Seconds in which the tick fires `count` schedules due together, ledger included."""
    fill(session, count, "now")
    with PostgresElection(name="bench", connect=lambda: psycopg.connect(database.url, autocommit=True)) as election:
        leadership = election.stand()
        assert leadership is not None
    with leadership:
        tick = make_tick(leadership)
        began = time.perf_counter()
        made = tick.run()
        seconds = time.perf_counter() - began
    assert made.fired == count, made
    return seconds


def bare_narrow_seconds(session: psycopg.Connection, count: int) -> float:
    """Seconds of one bare `UPDATE … RETURNING → INSERT`, two narrow tables with two indexes each, no ledger."""
    session.execute(NARROW_TABLES)
    session.execute(NARROW_FILL, [count])
    session.execute("VACUUM ANALYZE bare_schedule")
    settle(session)
    return _timed(session, NARROW_FIRE)


def bare_own_seconds(session: psycopg.Connection, count: int) -> float:
    """The same on our own two tables with their columns and indexes, no ledger."""
    fill(session, count, "now")
    seconds = _timed(session, OWN_FIRE)
    empty(session)
    return seconds


def _timed(session: psycopg.Connection, statement: str) -> float:
    began = time.perf_counter()
    session.execute(statement)
    return time.perf_counter() - began
