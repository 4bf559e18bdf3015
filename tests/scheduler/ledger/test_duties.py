"""Outcomes carried into the ledger, its months added ahead and dropped, and what is old forgotten."""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from pg_queue import api as queue
from pg_queue.domain import Death, Failure, Settlement, Success
from scheduler import ledger
from scheduler.domain import RUN_ENDS, Firer, RunState
from scheduler.models import BeatProcess, BeatSend, MirrorFailure, ScheduleRun
from tests.processes import LOCKED_HERE

pytestmark = pytest.mark.django_db

LEASE = timedelta(seconds=60)


def make_run(scheduled_for: datetime, **columns: Any) -> ScheduleRun:
    """A fired run with its message, as the tick leaves them."""
    run = ScheduleRun.objects.create(
        schedule_id=uuid.uuid4(),
        organization_id="default",
        scheduled_for=scheduled_for,
        firer=Firer.PG,
        **{"state": RunState.FIRED, "fired_at": timezone.now(), **columns},
    )
    queue.enqueue(
        "noop",
        id=run.id,
        report_to=ledger.REPORT_TO,
        headers={"schedule_id": str(run.schedule_id), "scheduled_for": scheduled_for.isoformat()},
    )
    return run


def settle(outcomes: dict[uuid.UUID, Any]) -> None:
    """Run the messages as a worker does."""
    claims = queue.store().claim(queues=["default"], limit=100, lease=LEASE, worker="test")
    queue.store().settle(
        [
            Settlement(message_id=claim.message.id, token=claim.token, outcome=outcomes[claim.message.id])
            for claim in claims
            if claim.message.id in outcomes
        ]
    )


def months() -> list[str]:
    return sorted(name for name, _ in ledger._known_months())


def test_outcomes_become_the_runs_results_once() -> None:
    now = timezone.now()
    good, bad = make_run(now), make_run(now - timedelta(days=40))
    settle(
        {
            good.id: Success(value={"rows": 3}),
            bad.id: Death(failure=Failure(type="ValueError", message="no", traceback="tb")),
        }
    )

    assert ledger.write_back() == 2

    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.state, good.result, good.error) == (RunState.SUCCEEDED, {"rows": 3}, None)
    assert (bad.state, bad.result) == (RunState.FAILED, None)
    assert bad.error == {"type": "ValueError", "message": "no", "traceback": "tb"}
    assert good.started_at is not None
    assert good.finished_at >= good.started_at
    assert ledger.write_back() == 0


def test_every_last_state_of_a_message_is_an_end_of_a_run() -> None:
    assert set(RUN_ENDS) == set(queue.TERMINAL_STATES)


def test_runs_that_are_not_finished_stay_as_they_are() -> None:
    run = make_run(timezone.now())
    assert ledger.write_back() == 0
    run.refresh_from_db()
    assert run.state == RunState.FIRED


def test_a_final_run_keeps_what_it_says() -> None:
    run = make_run(timezone.now(), state=RunState.FAILED, error={"type": "first"})
    settle({run.id: Success(value=1)})
    assert ledger.write_back() == 1
    run.refresh_from_db()
    assert (run.state, run.error) == (RunState.FAILED, {"type": "first"})


def test_a_dead_letter_that_is_replayed_gives_its_run_a_new_end() -> None:
    run, again = make_run(timezone.now()), make_run(timezone.now())
    settle({one.id: Death(failure=Failure(type="ValueError", message="first", traceback="")) for one in (run, again)})
    assert ledger.write_back() == 2
    run.refresh_from_db()
    first_end = run.finished_at

    queue.replay([run.id, again.id])
    settle(
        {
            run.id: Success(value=7),
            again.id: Death(failure=Failure(type="ValueError", message="second", traceback="")),
        }
    )
    assert ledger.write_back() == 2

    run.refresh_from_db()
    again.refresh_from_db()
    assert (run.state, run.result, run.error) == (RunState.SUCCEEDED, 7, None)
    assert run.finished_at > first_end
    assert (again.state, again.error["message"]) == (RunState.FAILED, "second")


def test_an_older_end_does_not_replace_a_newer_one(caplog: pytest.LogCaptureFixture) -> None:
    later = timezone.now() + timedelta(hours=1)
    run = make_run(timezone.now(), state=RunState.FAILED, error={"type": "newer"}, finished_at=later)
    done = make_run(timezone.now(), state=RunState.SUCCEEDED, finished_at=timezone.now() - timedelta(hours=1))
    settle({run.id: Success(value=1), done.id: Success(value=1)})
    assert ledger.write_back() == 2
    run.refresh_from_db()
    done.refresh_from_db()
    assert (run.state, run.error, run.finished_at) == (RunState.FAILED, {"type": "newer"}, later)
    assert done.result is None
    assert "ledger.outcomes_not_placed" in caplog.text


@pytest.mark.parametrize("instant", ["2031-11-15T12:00:00", "infinity", 5, None])
def test_an_outcome_whose_instant_means_nothing_holds_up_no_other(
    instant: object, caplog: pytest.LogCaptureFixture
) -> None:
    stray = queue.enqueue("noop", report_to=ledger.REPORT_TO, headers={"scheduled_for": instant})
    run = make_run(timezone.now())
    settle({stray: Success(value=None), run.id: Success(value=None)})
    assert ledger.write_back() == 2
    run.refresh_from_db()
    assert run.state == RunState.SUCCEEDED
    assert str(stray) in caplog.text


def test_an_outcome_without_its_occurrence_is_logged_and_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    stray = queue.enqueue("noop", report_to=ledger.REPORT_TO, headers={"scheduled_for": "yesterday"})
    run = make_run(timezone.now())
    settle({stray: Success(value=None), run.id: Success(value=None)})
    assert ledger.write_back() == 2
    run.refresh_from_db()
    assert run.state == RunState.SUCCEEDED
    assert str(stray) in caplog.text


@pytest.mark.postgresql("the ledger has no months on SQLite")
def test_months_are_made_ahead_once_and_runs_find_their_month(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_today", lambda: date(2031, 11, 30))
    assert ledger.add_months() == 4
    assert ledger.add_months() == 0
    assert [name[-7:] for name in months() if "y203" in name] == ["2031m11", "2031m12", "2032m01", "2032m02"]
    run = make_run(datetime(2031, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert place_of(run) == "scheduler_schedulerun_y2031m12"


@pytest.mark.postgresql("the ledger has no months on SQLite")
def test_what_fell_into_the_default_partition_moves_into_its_month(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = make_run(datetime(2031, 11, 1, tzinfo=UTC))
    outside = make_run(datetime(2031, 10, 31, 23, 59, 59, 999999, tzinfo=UTC))
    monkeypatch.setattr(ledger, "_today", lambda: date(2031, 11, 15))
    ledger.add_months()
    assert place_of(inside) == "scheduler_schedulerun_y2031m11"
    assert place_of(outside) == "scheduler_schedulerun_default"


@pytest.mark.postgresql("the ledger has no months on SQLite")
def test_a_month_is_dropped_when_its_last_day_is_older_than_the_retention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_today", lambda: date(2020, 1, 15))
    ledger.add_months()
    existing = [name for name in months() if "y2020" in name]
    monkeypatch.setattr(ledger, "_today", lambda: date(2020, 2, 1) + timedelta(days=89))
    assert ledger.drop_months() == 0
    monkeypatch.setattr(ledger, "_today", lambda: date(2020, 2, 1) + timedelta(days=90))
    assert ledger.drop_months() == 1
    assert [name for name in months() if "y2020" in name] == existing[1:]


def make_stretch(first: datetime, last: datetime) -> ScheduleRun:
    """A pause, as a resume leaves it."""
    return ScheduleRun.objects.create(
        schedule_id=uuid.uuid4(),
        organization_id="default",
        scheduled_for=first,
        span_end=last,
        occurrences=None,
        firer=Firer.PG,
        state=RunState.PAUSED,
    )


@pytest.mark.postgresql("the ledger has no months on SQLite")
def test_a_stretch_outlives_its_month_while_its_end_is_within_the_retention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_today", lambda: date(2020, 1, 15))
    ledger.add_months()
    began, ends = datetime(2020, 1, 20, tzinfo=UTC), datetime(2020, 5, 1, tzinfo=UTC)
    make_run(began)
    make_stretch(began, ends - timedelta(seconds=1))
    kept = make_stretch(began, ends)
    monkeypatch.setattr(ledger, "_today", lambda: date(2020, 5, 1) + timedelta(days=90))
    assert ledger.drop_months() == 4
    assert list(ScheduleRun.objects.values_list("id", flat=True)) == [kept.id]
    assert place_of(kept) == "scheduler_schedulerun_default"


@pytest.mark.postgresql("the ledger has no months on SQLite")
def test_a_stretch_in_no_month_is_forgotten_by_its_end() -> None:
    now = timezone.now()
    began = now - timedelta(days=300)
    make_stretch(began, now - timedelta(days=91))
    kept = make_stretch(began, now - timedelta(days=89))
    assert place_of(kept) == "scheduler_schedulerun_default"
    assert ledger.forget_unplaced() == 1
    assert list(ScheduleRun.objects.values_list("id", flat=True)) == [kept.id]


@pytest.mark.postgresql("the ledger has no months on SQLite, and no mirrors")
def test_old_runs_outside_the_months_and_old_mirror_failures_are_forgotten() -> None:
    old, recent = make_run(timezone.now() - timedelta(days=91)), make_run(timezone.now() - timedelta(days=89))
    for days in (31, 29):
        failure = MirrorFailure.objects.create(schedule_id=uuid.uuid4(), beat_name="x", path="create", error="no")
        MirrorFailure.objects.filter(pk=failure.pk).update(failed_at=timezone.now() - timedelta(days=days))
    assert ledger.forget_unplaced() == 1
    assert list(ScheduleRun.objects.values_list("id", flat=True)) == [recent.id]
    assert old.id != recent.id
    assert ledger.forget_mirror_failures() == 1
    assert MirrorFailure.objects.count() == 1


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_old_sends_of_beat_and_processes_that_are_long_gone_are_forgotten() -> None:
    for days in (91, 89):
        past = timezone.now() - timedelta(days=days)
        process = BeatProcess.objects.create(host="h", process_id=1, scheduler="s", mode="gate", heartbeat_at=past)
        BeatSend.objects.create(
            process=process, beat_name="x", message_id="1", sent_at=past, recorded_at=past, is_first=False, state="sent"
        )
    assert (ledger.forget_beat_sends(), ledger.forget_beat_processes()) == (1, 1)
    assert BeatSend.objects.get().process == BeatProcess.objects.get()
    assert {"forget_beat_sends", "forget_beat_processes"} <= {duty.name for duty in queue.all_duties()}


def place_of(run: ScheduleRun) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM scheduler_schedulerun WHERE id = %s", [run.id])
        found: str = cursor.fetchone()[0]
    return found


@pytest.mark.postgresql("the ledger has no months on SQLite")
@pytest.mark.django_db(transaction=True)
def test_a_month_that_must_wait_for_the_ledger_holds_up_nothing_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """ANALYZE holds the ledger as here, and then wants each partition: the other order would be a deadlock."""
    monkeypatch.setattr(ledger, "_today", lambda: date(2032, 6, 1))
    session = connection.copy()
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE ONLY scheduler_schedulerun IN SHARE UPDATE EXCLUSIVE MODE")
            thread = threading.Thread(target=add_months_elsewhere)
            thread.start()
            while not _query(session, _WAITING):
                assert thread.is_alive()
            assert _query(session, _HELD) == []
            thread.join(60)
    finally:
        session.close()


_WAITING = (
    f"SELECT 1 FROM pg_locks WHERE relation = 'scheduler_schedulerun'::regclass AND NOT granted AND {LOCKED_HERE}"
)
_HELD = (
    "SELECT 1 FROM pg_locks WHERE relation = 'scheduler_schedulerun_default'::regclass AND granted"
    f" AND mode = 'AccessExclusiveLock' AND {LOCKED_HERE}"
)


def add_months_elsewhere() -> None:
    try:
        with suppress(OperationalError):
            ledger.add_months()
    finally:
        connection.close()


def _query(session: Any, statement: str) -> list[Any]:
    with session.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())
