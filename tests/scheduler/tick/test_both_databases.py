"""The decision is written twice, in PostgreSQL's statement and in Python: on random schedules both come to the same."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.tick import Tick, make_tick
from tests.processes import ProcessDatabase, SqliteFile
from tests.scheduler.rows import Rows, SqliteRows, lead, rows_of

pytestmark = pytest.mark.postgresql("it compares the two")

NOON = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)  # Berlin's clock goes forward
PASSES = (timedelta(0), timedelta(seconds=1), timedelta(minutes=7), timedelta(hours=2), timedelta(hours=30))
SCHEDULES = 150
_CRONS = ("* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 1 * *", "5,35 1-4 * * mon-fri", "61 * * * *")
_ROW = ("next_run_at", "last_run_at", "hold", "run_count", "quarantine_error")
_RUN = ("schedule_id", "scheduled_for", "span_end", "occurrences", "state", "origin", "firer", "organization_id")
_MESSAGE = ("queue", "priority", "task", "args", "kwargs", "organization_id", "max_attempts", "report_to")


def some_schedule(chance: random.Random) -> dict[str, Any]:
    """Columns, of which few are as most schedules have them."""

    def some(*choices: Any) -> Any:
        return chance.choice(choices)

    due_at = NOON - timedelta(
        seconds=some(0, 1, 59, 60, 61, 600, 3599, 3600, 3601, 90_000), microseconds=some(0, 250_000)
    )
    minutes = timedelta(minutes=chance.randint(-90, 90))
    columns = {
        "next_run_at": due_at,
        "timezone": some("UTC", "Europe/Berlin", "Asia/Kathmandu"),
        "dialect": some("unix", "celery"),
        "catch_up": some("none", "latest", "all"),
        "overlap": some("allow", "allow", "skip", "queue"),
        "grace_seconds": some(None, 0, 60, 1800, 86_400),
        "ends_at": some(None, None, NOON + minutes),
        "make_up_until": some(None, None, NOON - minutes),
        "beat_from": some(None, None, None, NOON + minutes),
        "run_limit": some(None, None, 1, 3),
        "jitter_seconds": some(0, 0, 300),
        "organization_id": some("default", "acme"),
        "queue": some("default", "slow"),
        "priority": chance.randint(1, 10),
        "max_attempts": some(None, 1, 7),
    }
    kind = some("crontab", "interval", "clocked")
    if kind == "interval":
        seconds = some(0.5, 1, 7, 60, 90.25, 3600, 86_400, 1e-9)
        return {**columns, "kind": kind, "cron_string": f"PT{seconds:g}S", "interval_seconds": float(seconds)}
    if kind == "clocked":
        return {**columns, "kind": kind, "cron_string": due_at.isoformat(), "dialect": "unix"}
    return {**columns, "kind": kind, "cron_string": some(*_CRONS)}


@contextmanager
def ticking(database: ProcessDatabase | SqliteFile) -> Iterator[tuple[Rows, Tick]]:
    """Its rows and a tick, of a leader whose term began when no other can have."""
    with closing(rows_of(database)) as rows, lead(database) as leadership:
        gap = {"previous_heartbeat_at": NOON - timedelta(hours=20), "since": NOON - timedelta(minutes=30)}
        yield rows, make_tick(replace(leadership, **gap))


def told(rows: Rows, schedules: list[uuid.UUID]) -> dict[str, Any]:
    """What is stored, but for ids and for when it was stored."""
    found = [rows.get(schedule_id) for schedule_id in schedules]
    return {
        "schedules": [tuple(row[name] for name in _ROW) for row in found],
        "runs": sorted(tuple(str(run[name]) for name in _RUN) for run in rows.runs()),
        "messages": sorted(_told_of(message) for message in rows.messages()),
    }


def _told_of(message: dict[str, Any]) -> str:
    headers = message["headers"]
    instant = datetime.fromisoformat(headers["scheduled_for"])  # PostgreSQL writes no zeros at its end
    return str([*(message[name] for name in _MESSAGE), {**headers, "scheduled_for": instant}])


@pytest.mark.parametrize("seed", [1, 2, 3, 4, None], ids=str)
def test_random_schedules_come_to_the_same_on_both_databases(
    process_database: ProcessDatabase, sqlite_file: SqliteFile, seed: int | None
) -> None:
    seed = random.randrange(10**6) if seed is None else seed
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    made = [{"pipeline_id": uuid.UUID(int=chance.getrandbits(128)), **some_schedule(chance)} for _ in range(SCHEDULES)]
    ids = [columns["pipeline_id"] for columns in made]
    with ticking(process_database) as (one, first), ticking(sqlite_file) as (other, second):
        assert isinstance(other, SqliteRows)
        for columns in made:
            for rows in (one, other):
                rows.add(**columns)
        for after in PASSES:
            passes = [tick.run(at=NOON + after) for tick in (first, second)]
            counts = [replace(each, batch_seconds=[], quarantined=sorted(each.quarantined)) for each in passes]
            assert counts[0] == counts[1]
            for what, found in told(one, ids).items():
                assert found == told(other, ids)[what], what
            if chance.random() < 0.5:
                for rows, tick in ((one, first), (other, second)):
                    rows.session.execute("DELETE FROM pg_queue_message")
                    tick.release_held()
