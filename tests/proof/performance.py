"""One run: create, start, do harm for a while, let it settle, drain; what is left is the evidence."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from scheduler.api import acting_as
from tests.proof import evidence, scenario, tasks
from tests.proof.cast import SOON, Cast
from tests.proof.chaos import Chaos
from tests.proof.evidence import Evidence

WARM_UP_SENDS = 2
"""Of each fast schedule, by Beat, before anything is done."""
_WAITING = "SELECT count(*) FROM scheduler_handover WHERE state = 'waiting'"
_WHO_WAITS = """
    SELECT to_firer, method, count(*), min(requested_at)::text,
           (SELECT string_agg(concat(process_id, ' ', started_at, ' ', heartbeat_at, ' ', stopped_at), ', ')
            FROM scheduler_beatprocess WHERE stopped_at IS NULL)
    FROM scheduler_handover WHERE state = 'waiting' GROUP BY to_firer, method
"""
_UNNEEDED = "SELECT count(*) FROM django_celery_beat_periodictask WHERE name LIKE 'downbeat-canary%%'"
_SENDS = "SELECT count(*) FROM scheduler_beatsend WHERE schedule_id IS NOT NULL"
_OWED = """
    SELECT count(*) FROM scheduler_pgperiodicschedule
    WHERE firer = 'pg' AND enabled AND hold IS NULL AND next_run_at <= %s
"""
_MESSAGES = "SELECT count(*) FROM pg_queue_message"
_UNREAD = """
    SELECT count(*) FROM scheduler_beatsend AS send
    WHERE state = 'sent' AND schedule_id IS NOT NULL
      AND NOT EXISTS (SELECT FROM proof_execution WHERE message_id = send.message_id)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large it is."""

    phase: str
    """`stock` or `gate`."""
    duration: timedelta
    fast: int
    slower: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """What was done."""

    phase: str
    seed: int
    seconds: float
    schedules: int
    actions: Counter[str]
    answers: Counter[str]
    refusals: Counter[str]
    harm: Counter[str]
    evidence: Evidence


def perform(plan: Plan, url: str) -> Performance:
    """Do it on the empty, migrated database of `url`, for which Django is set up.

    Raises: AssertionError: something does not come to its end.
    """
    with psycopg.connect(url, autocommit=True) as session, tempfile.TemporaryDirectory() as folder:
        cast = Cast(url, Path(folder), plan.phase)
        try:
            return _perform(plan, url, session, cast)
        finally:
            cast.clean_up()


def _perform(plan: Plan, url: str, session: psycopg.Connection[Any], cast: Cast) -> Performance:
    session.execute(tasks.CREATE_TABLE)
    chance = Random(plan.seed)
    schedules = scenario.create(plan.fast, plan.slower, chance)
    cast.start()
    _wait_until(lambda: _count(session, _SENDS) >= WARM_UP_SENDS * plan.fast, "Beat sends")
    began = time.monotonic()
    chaos = Chaos(cast, schedules, chance)
    with acting_as("proof"):
        chaos.run(plan.duration)
    seconds = time.monotonic() - began
    until = _settle(session, cast)
    _drain(session, cast)
    return Performance(
        phase=plan.phase,
        seed=plan.seed,
        seconds=seconds,
        schedules=len(schedules),
        actions=chaos.actions,
        answers=chaos.answers,
        refusals=chaos.refusals,
        harm=cast.harm,
        evidence=evidence.read(url, until, cast.faults, cast.harm["worker killed"]),
    )


def _settle(session: psycopg.Connection[Any], cast: Cast) -> datetime:
    """Wait until every hand-over is over, and PG has decided on all that occurred until then; that instant."""
    cast.thaw()
    try:
        _wait_until(lambda: _count(session, _WAITING) == 0, "no hand-over waits")
    except AssertionError as error:
        waiting = session.execute(_WHO_WAITS).fetchall()
        raise AssertionError(f"{error}: {waiting}; the end of Beat's output:\n{cast.beat.output[-4000:]}") from None
    _wait_until(lambda: _count(session, _UNNEEDED) == 0, "the canaries are removed")
    until = session.execute("SELECT clock_timestamp()").fetchone()
    assert until is not None
    _wait_until(lambda: _count(session, _OWED, until[0]) == 0, "PG has decided")
    found: datetime = until[0]
    return found


def _drain(session: psycopg.Connection[Any], cast: Cast) -> None:
    """Stop what fires, and wait until everything is executed, or nothing more is."""
    cast.stop_firing()
    _wait_until(lambda: _count(session, _MESSAGES) == 0, "every message is executed")
    _wait_until(lambda: cast.unread() == 0, "Celery's worker has taken all of Beat's messages")
    deadline = time.monotonic() + 10
    while _count(session, _UNREAD) and time.monotonic() < deadline:
        time.sleep(0.1)


def _count(session: psycopg.Connection[Any], query: str, *parameters: object) -> int:
    found = session.execute(query.encode(), parameters).fetchone()
    assert found is not None
    return int(found[0])


def _wait_until(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SOON
    while not is_true():
        assert time.monotonic() < deadline, f"not within {SOON} s: {what}"
        time.sleep(0.1)
