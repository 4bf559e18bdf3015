"""Queues that are routed away, on SQLite: the same events, by statements of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pg_queue.domain import NewMessage
from pg_queue.storage.parcels import unpack
from scheduler.tick import Tick, make_tick
from tests.processes import SqliteFile
from tests.scheduler.relay.conftest import CELERY
from tests.scheduler.rows import SqliteRows, lead

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def rows(sqlite_file: SqliteFile) -> Iterator[SqliteRows]:
    """The file's tables."""
    found = SqliteRows(sqlite_file)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def tick(routes: None, sqlite_file: SqliteFile) -> Iterator[Tick]:
    """A tick that knows the routes."""
    with lead(sqlite_file) as leadership:
        yield make_tick(leadership)


def events(rows: SqliteRows) -> list[dict[str, Any]]:
    found = rows.session.execute("SELECT id, topic, key, payload FROM pg_queue_event ORDER BY id").fetchall()
    return [dict(zip(("id", "topic", "key", "payload"), row, strict=True)) for row in found]


def test_an_occurrence_of_a_routed_queue_becomes_an_event_under_the_runs_id(tick: Tick, rows: SqliteRows) -> None:
    schedule_id = rows.add(next_run_at=NOON, queue="away", priority=7, organization_id="acme", jitter_seconds=3600)
    here = rows.add(next_run_at=NOON)

    assert tick.run(at=NOON).fired == 2

    (event,) = events(rows)
    (run,) = rows.runs(schedule_id)
    assert [message["headers"]["schedule_id"] for message in rows.messages()] == [str(here)]
    assert (event["id"], event["key"], event["topic"]) == (run["id"].hex, str(run["id"]), CELERY)
    message = unpack(json.loads(event["payload"]))
    assert message.run_after is not None
    assert NOON < message.run_after < NOON + timedelta(hours=1)
    assert message == NewMessage(
        id=run["id"],
        task="echo",
        args=["a"],
        kwargs={"b": 1},
        queue="away",
        priority=7,
        max_attempts=3,
        organization_id="acme",
        report_to="schedule",
        headers={"schedule_id": str(schedule_id), "scheduled_for": "2026-03-10T12:00:00+00:00"},
        run_after=message.run_after,
    )


@pytest.mark.parametrize(
    ("leaves", "state"),
    [
        ("SELECT 1", "skipped"),
        ("DELETE FROM pg_queue_event", "fired"),
        ("UPDATE scheduler_schedulerun SET relayed_at = datetime('now')", "skipped"),
        ("UPDATE scheduler_schedulerun SET relayed_at = datetime('now', '-25 hours')", "fired"),
        ("UPDATE scheduler_schedulerun SET relayed_at = datetime('now'), state = 'relayed'", "fired"),
    ],
)
def test_the_overlap_policy_waits_as_far_as_an_end_can_be_known(
    tick: Tick, rows: SqliteRows, leaves: str, state: str
) -> None:
    schedule_id = rows.add(next_run_at=NOON, queue="away", overlap="skip")
    tick.run(at=NOON)
    if leaves.startswith("UPDATE"):
        rows.session.execute("DELETE FROM pg_queue_event")
    rows.session.execute(leaves)
    tick.run(at=NOON + MINUTE)
    assert rows.runs(schedule_id)[-1]["state"] == state
