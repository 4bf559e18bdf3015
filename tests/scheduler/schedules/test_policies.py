"""Pauses that end by themselves, pauses after failures, limits: what the choke points and the duties make of them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from pg_queue import api as queue
from pg_queue.domain import Death, Failure, Settlement, Success
from scheduler import api, ledger, policies
from scheduler.api import InvalidInput, PgPeriodicSchedule, ScheduleRun
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db

BAD = Death(failure=Failure(type="ValueError", message="no", traceback=""))
GOOD = Success(value=1)


def pause_until(made: PgPeriodicSchedule, ago: timedelta) -> datetime:
    """Pause it as if that were long ago, with an end so long ago; the end."""
    until = timezone.now().replace(microsecond=0) - ago
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(
        enabled=False, paused_at=until - timedelta(hours=1), paused_until=until, next_run_at=until - timedelta(hours=1)
    )
    return until


def end_runs(made: PgPeriodicSchedule, *outcomes: Success | Death) -> None:
    """Fire, execute and write back one run after the other."""
    for number, outcome in enumerate(outcomes):
        scheduled_for = timezone.now() + timedelta(microseconds=number)
        run = ScheduleRun.objects.create(
            schedule_id=made.pk,
            organization_id="default",
            scheduled_for=scheduled_for,
            firer="pg",
            state="fired",
            fired_at=scheduled_for,
        )
        headers = {"schedule_id": str(made.pk), "scheduled_for": scheduled_for.isoformat()}
        queue.enqueue("tests.count", id=run.id, report_to=ledger.REPORT_TO, headers=headers)
        [claim] = queue.store().claim(queues=["default"], limit=1, lease=timedelta(seconds=60), worker="test")
        queue.store().settle([Settlement(message_id=run.id, token=claim.token, outcome=outcome)])
        assert ledger.write_back() == 1


def reread(made: PgPeriodicSchedule) -> PgPeriodicSchedule:
    """As it is stored now."""
    return PgPeriodicSchedule.objects.get(pk=made.pk)


def test_a_pause_ends_by_itself_with_an_occurrence_at_that_instant_still_to_be_fired() -> None:
    made = make(kind="interval", expression="PT1M")
    until = pause_until(made, timedelta(seconds=30))
    assert policies.resume_on_time() == 1
    resumed = reread(made)
    assert (resumed.enabled, resumed.paused_until, resumed.next_run_at) == (True, None, until)
    [stretch] = ScheduleRun.objects.filter(schedule_id=made.pk)
    assert (stretch.state, stretch.span_end, stretch.occurrences) == ("paused", until - timedelta(minutes=1), 60)


def test_a_pause_whose_end_is_ahead_or_that_has_none_goes_on() -> None:
    ahead, endless = make(), make()
    api.pause_schedule(ahead.pk, until=timezone.now() + timedelta(hours=1))
    api.pause_schedule(endless.pk)
    assert policies.resume_on_time() == 0
    assert (reread(ahead).enabled, reread(endless).enabled) == (False, False)


def test_an_end_that_was_put_off_meanwhile_is_not_acted_on() -> None:
    made = make()
    pause_until(made, timedelta(seconds=1))
    later = timezone.now() + timedelta(hours=1)
    api.pause_schedule(made.pk, reason="longer", until=later)
    from scheduler import schedules

    schedules.resume_on_time(made.pk)  # decided on before it was put off
    assert (reread(made).enabled, reread(made).paused_until) == (False, later)


def test_one_that_cannot_be_resumed_stays_paused_and_says_why() -> None:
    made, other = make(), make()
    pause_until(made, timedelta(seconds=2))
    pause_until(other, timedelta(seconds=1))
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(timezone="Mars/Olympus")
    assert policies.resume_on_time() == 2
    assert "Mars/Olympus" in reread(made).pause_note
    assert (reread(made).enabled, reread(made).paused_until, reread(other).enabled) == (False, None, True)
    assert policies.resume_on_time() == 0


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_one_whose_mirror_cannot_be_written_is_not_tried_every_second() -> None:
    made = make(firer="beat")
    pause_until(made, timedelta(seconds=1))
    failure = api.MirrorFailure.objects.create(schedule_id=made.pk, beat_name=made.beat_name, path="resume", error="x")
    assert policies.resume_on_time() == 0
    api.MirrorFailure.objects.filter(pk=failure.pk).update(failed_at=timezone.now() - timedelta(minutes=2))
    assert policies.resume_on_time() == 1


def test_the_end_of_a_pause_must_be_ahead(hands: Hands) -> None:
    made = make()
    with pytest.raises(InvalidInput, match="paused_until: expected an instant after now"):
        api.pause_schedule(made.pk, until=hands.now)
    with pytest.raises(InvalidInput, match="paused_until"):
        make(paused_until=at("2026-03-03 00:00:00"))  # not paused
    with pytest.raises(InvalidInput, match="paused_until"):
        api.update_schedule(made.pk, paused_until=at("2026-03-03 00:00:00"))
    paused = make(enabled=False, paused_until=at("2026-03-03 00:00:00"))
    moved = api.update_schedule(paused.pk, paused_until=at("2026-03-04 00:00:00"), pause_note="moved")
    assert (moved.paused_until, moved.pause_note, moved.paused_at) == (at("2026-03-04 00:00:00"), "moved", hands.now)
    assert reread(made).enabled


def test_it_is_paused_when_so_many_runs_have_failed_in_a_row() -> None:
    made = make(pause_after_failures=3)
    end_runs(made, BAD, BAD, GOOD, BAD, BAD)
    assert policies.pause_failing() == 0
    assert reread(made).failures_in_a_row == 2
    end_runs(made, BAD)
    assert policies.pause_failing() == 1
    paused = reread(made)
    assert (paused.enabled, paused.pause_note) == (False, "paused by itself: 3 runs failed in a row")
    assert policies.pause_failing() == 0
    resumed = api.resume_schedule(made.pk)
    assert (resumed.failures_in_a_row, policies.pause_failing()) == (0, 0)


def test_outcomes_of_one_batch_count_in_their_order() -> None:
    made = make(pause_after_failures=9)
    ids = []
    for _ in range(4):
        scheduled_for = timezone.now()
        run = ScheduleRun.objects.create(
            schedule_id=made.pk, organization_id="default", scheduled_for=scheduled_for, firer="pg", state="fired",
            fired_at=scheduled_for,
        )  # fmt: skip
        headers = {"schedule_id": str(made.pk), "scheduled_for": scheduled_for.isoformat()}
        ids.append(queue.enqueue("tests.count", id=run.id, report_to=ledger.REPORT_TO, headers=headers))
    claims = queue.store().claim(queues=["default"], limit=9, lease=timedelta(seconds=60), worker="test")
    tokens: dict[uuid.UUID, Any] = {claim.message.id: claim.token for claim in claims}
    for message_id, outcome in zip(ids, (BAD, GOOD, BAD, BAD), strict=True):
        queue.store().settle([Settlement(message_id=message_id, token=tokens[message_id], outcome=outcome)])
    assert ledger.write_back() == 4
    assert reread(made).failures_in_a_row == 2


def test_failures_are_not_counted_where_nobody_asked() -> None:
    made = make()
    end_runs(made, BAD)
    assert reread(made).failures_in_a_row == 0


def test_a_limit_that_is_raised_gives_an_ended_schedule_another_occurrence(hands: Hands) -> None:
    made = make(run_limit=1)
    assert api.upcoming(made, 5) == [made.next_run_at]
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(run_count=1, next_run_at=None)
    assert reread(made).state == "ended"
    assert api.update_schedule(made.pk, priority=7).next_run_at is None
    raised = api.update_schedule(made.pk, run_limit=3)
    assert (raised.next_run_at, raised.run_count, len(api.upcoming(raised, 5))) == (at("2026-03-02 10:10:00"), 1, 2)


def test_a_new_cadence_starts_the_count_anew(hands: Hands) -> None:
    made = make(run_limit=1)
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(run_count=1, next_run_at=None, hold="overlap")
    edited = api.update_schedule(made.pk, expression="0 12 * * *")
    assert (edited.run_count, edited.next_run_at, edited.hold) == (0, at("2026-03-02 12:00:00"), None)


def test_a_limit_lowered_below_what_was_fired_ends_it(hands: Hands) -> None:
    made = make()
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(run_count=5)
    assert api.update_schedule(made.pk, run_limit=5).next_run_at is None


def test_policies_are_stored_as_given() -> None:
    given = {"catch_up": "all", "overlap": "queue", "jitter_seconds": 90, "run_limit": 4, "pause_after_failures": 2}
    made = make(**given)
    assert {name: getattr(reread(made), name) for name in given} == given
    assert datetime.now(UTC) > made.created_at
