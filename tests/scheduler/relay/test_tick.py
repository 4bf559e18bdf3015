"""What a tick does with occurrences whose queue is routed away; the instant is injected."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.test import override_settings

from pg_queue.domain import NewMessage
from pg_queue.leader import PostgresLeadership
from pg_queue.storage.parcels import unpack
from scheduler.tick import PostgresTick, Tick, make_tick
from scheduler.tick.postgres import fire_statements
from scheduler.verdicts import Verdicts
from tests.scheduler.relay.conftest import CELERY
from tests.scheduler.rows import Rows

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


@contextmanager
def routed(routes: Any) -> Iterator[None]:
    with override_settings(PG_QUEUE={**django_settings.PG_QUEUE, "ROUTES": routes}):
        yield


def events(rows: Rows) -> list[dict[str, Any]]:
    return rows.session.execute("SELECT * FROM pg_queue_event ORDER BY id").fetchall()


def test_an_occurrence_of_a_routed_queue_becomes_an_event_under_the_runs_id(routed_tick: Tick, rows: Rows) -> None:
    schedule_id = rows.add(
        next_run_at=NOON, queue="away", priority=7, organization_id="acme", max_attempts=9, jitter_seconds=3600
    )

    made = routed_tick.run(at=NOON + SECOND)

    [run], [event] = rows.runs(), events(rows)
    assert made.fired == 1
    assert rows.messages() == []
    assert (run["state"], run["relayed_at"]) == ("fired", None)
    assert (event["id"], event["key"], event["topic"]) == (run["id"], str(run["id"]), CELERY)
    message = unpack(event["payload"])
    assert message.run_after is not None
    assert NOON < message.run_after < NOON + timedelta(hours=1)
    assert message == NewMessage(
        id=run["id"],
        task="echo",
        args=["a"],
        kwargs={"b": 1},
        queue="away",
        priority=7,
        max_attempts=9,
        organization_id="acme",
        report_to="schedule",
        headers={"schedule_id": str(schedule_id), "scheduled_for": "2026-03-10T12:00:00+00:00"},
        run_after=message.run_after,
    )


def test_what_is_not_routed_stays_in_the_same_pass(routed_tick: Tick, rows: Rows) -> None:
    here, away = rows.add(next_run_at=NOON), rows.add(next_run_at=NOON, queue="away")
    assert routed_tick.run(at=NOON).fired == 2
    assert [message["headers"]["schedule_id"] for message in rows.messages()] == [str(here)]
    assert [event["payload"]["headers"]["schedule_id"] for event in events(rows)] == [str(away)]
    assert "run_after" not in events(rows)[0]["payload"]


def test_every_queue_may_be_routed_but_some(leadership: PostgresLeadership, rows: Rows) -> None:
    rows.add(next_run_at=NOON)
    rows.add(next_run_at=NOON, queue="stays")
    with routed({"*": {"CELERY": "backend.celery.app"}, "stays": {"STORE": "default"}}):
        assert make_tick(leadership).run(at=NOON).fired == 2
    assert [event["payload"]["queue"] for event in events(rows)] == ["default"]
    assert [message["queue"] for message in rows.messages()] == ["stays"]


def test_without_routes_the_statement_is_as_if_there_were_none_in_the_world() -> None:
    plain = fire_statements()
    assert "pg_queue_event" not in plain.fire
    with routed({"away": {"CELERY": "backend.celery.app"}}):
        assert "pg_queue_event" in fire_statements().fire
        assert "pg_queue_event" not in fire_statements(is_shadow=True).fire
    with routed({"away": {"STORE": "default"}}):
        assert fire_statements() == plain


def test_a_batch_that_is_rolled_back_leaves_nothing_to_relay(
    routed_tick: Tick, leadership: PostgresLeadership, rows: Rows
) -> None:
    assert isinstance(routed_tick, PostgresTick)
    schedule_id = rows.add_interval(60, next_run_at=NOON, queue="away")
    window = routed_tick._window(NOON, ("-infinity", str(uuid.UUID(int=0))), 10) | Verdicts().on([])
    with suppress(psycopg.errors.AdminShutdown), leadership.transaction():
        assert routed_tick._write(window | routed_tick._circumstances(NOON), False).fired == 1
        raise psycopg.errors.AdminShutdown
    assert events(rows) == rows.runs() == []
    assert rows.get(schedule_id)["next_run_at"] == NOON
    routed_tick.run(at=NOON)
    assert len(events(rows)) == len(rows.runs()) == 1


class TestOverlap:
    """A run that has left: how long the next one waits for it."""

    @pytest.fixture
    def schedule_id(self, routed_tick: Tick, rows: Rows) -> uuid.UUID:
        """One whose first occurrence was fired, and which skips while that goes on."""
        schedule_id = rows.add(next_run_at=NOON, queue="away", overlap="skip")
        assert routed_tick.run(at=NOON).fired == 1
        return schedule_id

    def next_state(self, tick: Tick, rows: Rows, schedule_id: uuid.UUID) -> str:
        tick.run(at=NOON + MINUTE)
        return str(rows.runs(schedule_id)[-1]["state"])

    def leave(self, rows: Rows, state: str, relayed_at: str) -> None:
        rows.session.execute("DELETE FROM pg_queue_event")
        rows.session.execute(f"UPDATE scheduler_schedulerun SET state = %s, relayed_at = {relayed_at}", [state])  # type: ignore[arg-type]

    def test_it_waits_while_the_run_is_in_the_outbox(self, routed_tick: Tick, rows: Rows, schedule_id: Any) -> None:
        assert self.next_state(routed_tick, rows, schedule_id) == "skipped"

    def test_it_does_not_wait_for_a_run_that_a_broker_has(
        self, routed_tick: Tick, rows: Rows, schedule_id: Any
    ) -> None:
        self.leave(rows, "relayed", "now()")
        assert self.next_state(routed_tick, rows, schedule_id) == "fired"

    def test_it_waits_for_a_run_that_another_store_has(self, routed_tick: Tick, rows: Rows, schedule_id: Any) -> None:
        self.leave(rows, "fired", "now()")
        assert self.next_state(routed_tick, rows, schedule_id) == "skipped"

    def test_but_not_for_ever(self, routed_tick: Tick, rows: Rows, schedule_id: Any) -> None:
        self.leave(rows, "fired", "now() - interval '25 hours'")
        assert self.next_state(routed_tick, rows, schedule_id) == "fired"

    def test_it_does_not_wait_for_one_that_the_other_store_has_ended(
        self, routed_tick: Tick, rows: Rows, schedule_id: Any
    ) -> None:
        self.leave(rows, "succeeded", "now()")
        assert self.next_state(routed_tick, rows, schedule_id) == "fired"

    def test_one_that_queues_is_let_go_when_its_run_has_ended(self, routed_tick: Tick, rows: Rows) -> None:
        schedule_id = rows.add(next_run_at=NOON, queue="away", overlap="queue")
        routed_tick.run(at=NOON)
        assert routed_tick.run(at=NOON + MINUTE).held == 1
        assert routed_tick.release_held() == 0
        self.leave(rows, "fired", "now()")
        assert routed_tick.release_held() == 0
        self.leave(rows, "relayed", "now()")
        assert routed_tick.release_held() == 1
        assert routed_tick.run(at=NOON + MINUTE).fired == 1
        assert rows.get(schedule_id)["hold"] is None
