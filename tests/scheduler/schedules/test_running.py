"""Running by hand, and what a run shows while the queue still has it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from pg_queue import api as queue
from pg_queue.domain import Death, Settlement, Success
from pg_queue.relay.courier import Courier
from scheduler import api, ledger
from scheduler.api import InvalidInput, PgPeriodicSchedule, RunState, ScheduleRun
from scheduler.runs import messages_of
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import make

pytestmark = pytest.mark.django_db


def test_a_run_by_hand_is_a_ledger_row_and_its_message() -> None:
    made = make(args=[1], kwargs={"a": 2}, queue="reports", priority=8, organization_id="acme", max_attempts=2)
    run = api.run_schedule(made.pk)
    message = queue.get_messages([run.id])[run.id]
    assert (message.task, message.args, message.kwargs) == ("tests.count", [1], {"a": 2})
    assert (message.queue, message.priority, message.max_attempts) == ("reports", 8, 2)
    assert (message.organization_id, message.report_to) == ("acme", "schedule")
    assert message.headers == {"schedule_id": str(made.pk), "scheduled_for": run.scheduled_for.isoformat()}
    stored = ScheduleRun.objects.get(pk=run.id)
    assert (stored.origin, stored.state, stored.firer, stored.occurrences) == ("manual", "fired", "pg", 1)
    assert stored.scheduled_for == stored.fired_at == run.scheduled_for


def test_a_paused_schedule_can_be_run_by_hand_and_stays_paused() -> None:
    made = make(enabled=False)
    api.run_schedule(made.pk)
    stored = PgPeriodicSchedule.objects.get(pk=made.pk)
    assert (stored.enabled, stored.next_run_at) == (False, made.next_run_at)


def test_a_run_by_hand_beside_an_occurrence_does_not_claim_it(hands: Hands) -> None:
    made = make()
    assert made.next_run_at is not None
    hands.now = made.next_run_at
    api.run_schedule(made.pk)
    row = {"schedule_id": made.pk, "organization_id": "default", "scheduled_for": hands.now, "firer": "pg"}
    ScheduleRun.objects.create(**row, state="fired", fired_at=hands.now)
    assert ScheduleRun.objects.of_schedule(made.pk).count() == 2


def test_a_run_that_is_rolled_back_leaves_neither_row_nor_message() -> None:
    made = make()
    with transaction.atomic():
        run = api.run_schedule(made.pk)
        transaction.set_rollback(True)
    assert queue.get_messages([run.id]) == {}
    assert not ScheduleRun.objects.exists()


def test_a_task_that_is_not_registered_any_more_cannot_be_run() -> None:
    made = make()
    PgPeriodicSchedule.objects.update(task="gone.away")
    with pytest.raises(InvalidInput, match="task: expected the name of a registered task"):
        api.run_schedule(made.pk)
    assert not ScheduleRun.objects.exists()


def claim() -> queue.Message:
    """Hold the next message, as a worker does."""
    held = queue.store().claim(queues=["default"], limit=1, lease=timedelta(minutes=1), worker="w")
    assert held
    return held[0].message


def test_a_run_shows_the_queues_state_until_the_ledger_has_its_end() -> None:
    run = api.run_schedule(make().pk)
    assert api.runs_with_live_state([run])[0].state is RunState.FIRED
    message = claim()
    view = api.runs_with_live_state([run])[0]
    assert (view.state, view.started_at) == (RunState.RUNNING, message.started_at)


def test_a_failed_run_that_is_replayed_is_shown_as_waiting_again() -> None:
    run = api.run_schedule(make().pk)
    [held] = queue.store().claim(queues=["default"], limit=1, lease=timedelta(minutes=1), worker="w")
    death = Death(failure=queue.Failure(type="ValueError", message="no", traceback=""))
    queue.store().settle([Settlement(message_id=run.id, token=held.token, outcome=death)])
    ledger.write_back()
    run.refresh_from_db()
    assert api.runs_with_live_state([run])[0].state is RunState.FAILED
    queue.replay([run.id])
    view = api.runs_with_live_state([run])[0]
    assert (view.state, view.finished_at) == (RunState.FIRED, None)


def test_runs_keep_their_order_and_are_looked_up_together(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked, real = make(), [], queue.get_messages
    runs = [api.run_schedule(made.pk) for _ in range(5)]
    monkeypatch.setattr(queue, "get_messages", lambda ids: asked.append(list(ids)) or real(ids))
    views = api.runs_with_live_state(reversed(runs))
    assert [view.id for view in views] == [run.id for run in reversed(runs)]
    assert [len(ids) for ids in asked] == [5]


def test_a_run_that_is_routed_away_is_shown_as_its_message_is_wherever_that_is(settings: Any) -> None:
    stores = {"default": {}, "far": {"NAMESPACE": "far"}}
    settings.PG_QUEUE = {"STORES": stores, "ROUTES": {"default": {"STORE": "far"}}}
    run = api.run_schedule(make().pk)
    assert api.runs_with_live_state([run])[0].state is RunState.FIRED
    assert messages_of([run.id])[run.id].state is queue.MessageState.WAITING, "it is in the outbox"
    Courier("relay:store:far").make_round()
    [held] = queue.store("far").claim(queues=["default"], limit=1, lease=timedelta(minutes=1), worker="w")
    assert held.message.id == run.id
    assert api.runs_with_live_state([run])[0].state is RunState.RUNNING
    queue.store("far").settle([Settlement(message_id=run.id, token=held.token, outcome=Success(value=1))])
    assert api.runs_with_live_state([run])[0].state is RunState.SUCCEEDED


def test_a_finished_run_is_shown_as_the_ledger_has_it() -> None:
    run = api.run_schedule(make().pk)
    run.state, run.result = RunState.SUCCEEDED.value, {"rows": 3}
    view = api.runs_with_live_state([run])[0]
    assert (view.state, view.result) == (RunState.SUCCEEDED, {"rows": 3})


def test_a_run_whose_message_is_gone_keeps_its_state() -> None:
    made = make()
    lost = ScheduleRun(
        schedule_id=made.pk,
        organization_id="default",
        scheduled_for=made.created_at,
        fired_at=made.created_at,
        state="fired",
        firer="pg",
        origin="schedule",
        occurrences=1,
    )
    assert api.runs_with_live_state([lost])[0].state is RunState.FIRED


def test_a_run_that_the_ledger_cannot_take_has_no_message_either(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(ScheduleRun, "save", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        api.run_schedule(made.pk)
    assert queue.depths() == []
