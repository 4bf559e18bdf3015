"""What the ledger says of a run that has left."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.utils import timezone

from pg_queue import api as queue
from pg_queue.domain import Failure, Message, MessageState, NewMessage
from scheduler import api, ledger
from scheduler.domain import Firer, RunState
from scheduler.models import ScheduleRun
from tests.scheduler.schedules.making import make

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def fired(**columns: Any) -> tuple[ScheduleRun, NewMessage]:
    run = ScheduleRun.objects.create(
        schedule_id=uuid.uuid4(),
        organization_id="default",
        scheduled_for=NOON,
        firer=Firer.PG,
        **{"state": RunState.FIRED, "fired_at": timezone.now(), **columns},
    )
    headers = {"schedule_id": str(run.schedule_id), "scheduled_for": NOON.isoformat()}
    return run, NewMessage(task="noop", id=run.pk, headers=headers, report_to=ledger.REPORT_TO)


def ended(message: NewMessage, state: MessageState) -> Message:
    now = timezone.now()
    assert message.id is not None
    return Message(
        id=message.id,
        task=message.task,
        args=[],
        kwargs={},
        queue="away",
        priority=5,
        state=state,
        attempts=1,
        max_attempts=3,
        run_after=now,
        enqueued_at=now,
        started_at=now,
        finished_at=now,
        headers=dict(message.headers),
        organization_id="",
        result=None if state is MessageState.FAILED else [1],
        error=Failure(type="ValueError", message="no") if state is MessageState.FAILED else None,
    )


def test_a_run_that_a_broker_has_taken_is_relayed_and_says_since_when() -> None:
    run, message = fired()
    ledger.note_relayed([message], False)
    run.refresh_from_db()
    assert run.state == RunState.RELAYED
    assert run.relayed_at is not None
    first = run.relayed_at
    ledger.note_relayed([message], False)
    run.refresh_from_db()
    assert run.relayed_at == first, "a repetition changes nothing"


@pytest.mark.parametrize("state", [MessageState.SUCCEEDED, MessageState.FAILED])
def test_a_run_that_another_store_has_taken_waits_for_its_outcome(state: MessageState) -> None:
    run, message = fired()
    ledger.note_relayed([message], True)
    run.refresh_from_db()
    assert (run.state, run.relayed_at is not None) == (RunState.FIRED, True)
    for _ in range(2):
        ledger.write_outcomes([ended(message, state)])
        run.refresh_from_db()
        assert run.state == state


def test_an_outcome_that_was_quicker_than_the_relay_stands() -> None:
    run, message = fired()
    ledger.write_outcomes([ended(message, MessageState.SUCCEEDED)])
    ledger.note_relayed([message], True)
    ledger.note_relayed([message], False)
    run.refresh_from_db()
    assert (run.state, run.relayed_at is not None) == (RunState.SUCCEEDED, True)


def test_messages_of_nobodys_runs_are_left_alone() -> None:
    ledger.note_relayed([NewMessage(task="noop", id=uuid.uuid4()), fired()[1]], False)
    assert ScheduleRun.objects.get().state == RunState.RELAYED


def test_run_now_follows_the_routes(settings: Any) -> None:
    settings.PG_QUEUE = {**settings.PG_QUEUE, "ROUTES": {"away": {"CELERY": "backend.celery.app"}}}
    run = api.run_schedule(make(queue="away", priority=8).pk)
    assert queue.get_messages([run.id]) == {}
    (waiting,) = queue.outbox_backlog()
    assert (waiting.topic, waiting.waiting) == ("relay:celery:backend.celery.app", 1)
    assert ScheduleRun.objects.get().state == RunState.FIRED
