"""Why a schedule did, or did not, run at an instant."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from scheduler import api
from scheduler.api import InvalidInput, PgPeriodicSchedule, ScheduleNotFound, ScheduleRun
from scheduler.models import BeatProcess, BeatSend, Handover
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db

THREE = at("2026-03-03 03:00:00")


@pytest.fixture
def made(hands: Hands) -> PgPeriodicSchedule:
    """A schedule of every full hour, made a day before three o'clock; it is noon of the day after."""
    schedule = make(expression="0 * * * *")
    hands.set("2026-03-03 12:00:00")
    return schedule


def record(made: PgPeriodicSchedule, scheduled_for: datetime, **columns: Any) -> ScheduleRun:
    """A row of the ledger."""
    return ScheduleRun.objects.create(
        id=uuid.uuid4(), schedule_id=made.pk, organization_id="default", scheduled_for=scheduled_for,
        **{"firer": "pg", "state": "succeeded", "fired_at": scheduled_for, **columns},
    )  # fmt: skip


def told(made: PgPeriodicSchedule, instant: datetime = THREE) -> tuple[datetime | None, str, str]:
    """Occurrence, state and reason."""
    found = api.explain(made.pk, instant)
    return found.occurrence, found.state, found.reason


def test_an_occurrence_that_ran_is_told_by_its_row(made: PgPeriodicSchedule) -> None:
    run = record(made, THREE)
    found = api.explain(made.pk, THREE + timedelta(minutes=20))
    assert (found.occurrence, found.state, found.reason) == (THREE, "succeeded", "It ran and succeeded.")
    assert found.run is not None
    assert found.run.id == run.id


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("coalesced", "the latest one missed with it was fired"),
        ("skipped", "overlap policy"),
        ("expired", "catch-up window"),
        ("paused", "paused"),
        ("no_leader", "leading"),
    ],
)
def test_an_occurrence_within_a_stretch_is_told_by_the_stretch(
    made: PgPeriodicSchedule, state: str, words: str
) -> None:
    record(made, THREE - timedelta(hours=2), state=state, fired_at=None, span_end=THREE + timedelta(hours=2))
    occurrence, found, reason = told(made)
    assert (occurrence, found) == (THREE, state)
    assert words in reason


def test_the_reason_that_was_recorded_is_told_with_it(made: PgPeriodicSchedule) -> None:
    record(made, THREE, state="failed", error={"type": "ValueError", "message": "no rows", "traceback": ""})
    assert told(made)[2].endswith("last attempt failed. no rows")


def test_a_manual_or_a_shadow_run_at_that_instant_is_not_the_occurrence(made: PgPeriodicSchedule) -> None:
    record(made, THREE, origin="manual")
    record(made, THREE, origin="shadow")
    assert told(made)[1] == "due"


def test_what_is_ahead_is_planned_unless_something_holds_it(made: PgPeriodicSchedule) -> None:
    ahead = at("2026-03-03 15:30:00")
    assert told(made, ahead)[:2] == (at("2026-03-03 16:00:00"), "planned")
    api.pause_schedule(made.pk, reason="moving house")
    assert told(made, ahead) == (None, "paused", "The schedule is paused: moving house.")


@pytest.mark.parametrize(
    ("columns", "state", "words"),
    [
        ({"created_at": THREE + timedelta(hours=1)}, "not_expected", "created later"),
        ({"starts_at": THREE + timedelta(hours=1)}, "not_expected", "starts later"),
        ({"ends_at": THREE}, "not_expected", "had ended"),
        ({"quarantined_at": THREE, "quarantine_error": "bad zone"}, "quarantined", "bad zone"),
        ({"enabled": False, "paused_at": THREE, "pause_note": "x"}, "paused", "paused: x"),
        ({"hold": "overlap"}, "held", "run before"),
        ({}, "due", "no scheduler is ticking"),
        ({"next_run_at": THREE + timedelta(hours=1)}, "unknown", "by other means"),
        ({"firer": "beat"}, "other_firer", "was not seen to send"),
    ],
)
def test_without_a_row_it_is_told_why_there_is_none(
    made: PgPeriodicSchedule, columns: dict[str, Any], state: str, words: str
) -> None:
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(**{"next_run_at": THREE} | columns)
    occurrence, found, reason = told(made)
    assert (occurrence, found) == (THREE, state)
    assert words in reason


def test_an_occurrence_of_a_cadence_that_was_set_later_was_not_expected(made: PgPeriodicSchedule, hands: Hands) -> None:
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(next_run_at=at("2026-03-03 13:00:00"))
    with api.acting_as("ada"):
        api.update_schedule(made.pk, expression="30 * * * *")
    occurrence, state, reason = told(made)
    assert (occurrence, state) == (at("2026-03-03 02:30:00"), "not_expected")
    assert "since it was changed at 2026-03-03 12:00:00 UTC by ada" in reason


def test_what_beat_was_seen_to_send_is_told(made: PgPeriodicSchedule) -> None:
    process = BeatProcess.objects.create(host="h", process_id=1, scheduler="s", mode="observe")
    BeatSend.objects.create(
        process=process, beat_name=made.beat_name, schedule_id=made.pk, message_id="m", scheduled_for=THREE,
        sent_at=THREE + timedelta(seconds=1), is_first=True, state="sent",
    )  # fmt: skip
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(firer="beat")
    found = api.explain(made.pk, THREE)
    assert (found.state, found.sent_ats) == ("sent", (THREE + timedelta(seconds=1),))
    record(made, THREE, firer="beat", state="fired")
    assert told(made)[1:] == ("fired", "Celery Beat sent it.")


HOUR = timedelta(hours=1)
TO_PG, TO_BEAT = {"to_firer": "pg", "method": "canary"}, {"to_firer": "beat", "method": "return"}


@pytest.mark.parametrize(
    ("columns", "handover", "state", "words"),
    [
        ({"hold": "handover"}, {**TO_PG, "requested_at": THREE + HOUR}, "held", "is being handed over to PG"),
        ({"firer": "pg"}, {**TO_PG, "requested_at": THREE + HOUR}, "other_firer", "until 2026-03-03 04:00:00 UTC"),
        ({"next_run_at": THREE}, {**TO_PG, "requested_at": THREE + HOUR}, "due", "no scheduler is ticking"),
        ({"firer": "pg"}, {**TO_PG, "requested_at": THREE - HOUR}, "unknown", "or it was handed over"),
        (
            {"beat_from": THREE - HOUR},
            {**TO_BEAT, "beat_from": THREE - HOUR},
            "other_firer",
            "since 2026-03-03 02:00:00",
        ),
        ({"beat_from": THREE, "next_run_at": THREE}, {**TO_BEAT, "beat_from": THREE}, "due", "no scheduler is ticking"),
        ({"firer": "beat"}, {**TO_BEAT, "beat_from": THREE - HOUR}, "other_firer", "Celery Beat fires the schedule"),
        ({"firer": "beat"}, {**TO_BEAT, "beat_from": THREE}, "unknown", "or it was handed over"),
    ],
)
def test_whose_an_occurrence_was_is_told_by_the_hand_over_after_it(
    made: PgPeriodicSchedule, columns: dict[str, Any], handover: dict[str, Any], state: str, words: str
) -> None:
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(**{"next_run_at": THREE + 20 * HOUR} | columns)
    Handover.objects.create(schedule_id=made.pk, beat_name=made.beat_name, organization_id="default", **handover)
    assert told(made)[1] == state
    assert words in told(made)[2]


def test_what_is_ahead_of_a_schedule_in_the_middle_of_a_hand_over_says_whose_it_is(made: PgPeriodicSchedule) -> None:
    rows, ahead = PgPeriodicSchedule.objects.filter(pk=made.pk), at("2026-03-03 15:30:00")
    rows.update(hold="handover")
    assert "PG fires it, if Celery Beat does not before" in told(made, ahead)[2]
    rows.update(hold=None, beat_from=ahead)
    assert "Celery Beat's: the schedule goes back to it at 2026-03-03 15:30:00 UTC" in told(made, ahead)[2]
    rows.update(beat_from=ahead + HOUR)
    assert told(made, ahead)[1:] == ("planned", "It is ahead.")


def test_what_a_beat_has_left_out_before_its_last_send_is_not_waited_for(made: PgPeriodicSchedule) -> None:
    process = BeatProcess.objects.create(host="h", process_id=1, scheduler="s", mode="observe")
    BeatSend.objects.create(
        process=process, beat_name=made.beat_name, schedule_id=made.pk, message_id="m", scheduled_for=THREE + HOUR,
        sent_at=THREE + HOUR, is_first=True, state="sent",
    )  # fmt: skip
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(hold="handover", next_run_at=THREE + 2 * HOUR)
    Handover.objects.create(
        schedule_id=made.pk, beat_name=made.beat_name, organization_id="default", requested_at=THREE + HOUR, **TO_PG
    )
    assert told(made)[1] == "other_firer"
    assert told(made, THREE + 2 * HOUR)[1] == "held"


def test_an_intervals_occurrence_is_known_by_what_was_recorded(hands: Hands) -> None:
    made = make(kind="interval", expression="PT10M")
    hands.set("2026-03-03 12:00:00")
    record(made, THREE)
    assert told(made, THREE + timedelta(minutes=9))[:2] == (THREE, "succeeded")
    assert told(made, THREE + timedelta(minutes=25))[:2] == (THREE + timedelta(minutes=20), "due")
    record(made, THREE + timedelta(hours=1), state="paused", fired_at=None, span_end=THREE + timedelta(hours=2))
    assert told(made, THREE + timedelta(minutes=75))[:2] == (THREE + timedelta(minutes=70), "paused")


def test_bad_questions_are_refused(made: PgPeriodicSchedule) -> None:
    with pytest.raises(InvalidInput, match="at: expected a datetime with a time zone"):
        api.explain(made.pk, datetime(2026, 1, 1))
    with pytest.raises(ScheduleNotFound):
        api.explain(uuid.uuid4(), THREE)


def test_what_would_follow_after_the_last_permitted_run_is_not_expected(hands: Hands) -> None:
    made = make(expression="* * * * *", run_limit=2)
    last = at("2026-03-02 10:08:00")
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(run_count=2, last_run_at=last, next_run_at=None)
    now = hands.set("2026-03-02 10:20:00")
    told = api.explain(made.pk, now)
    assert (told.state, told.reason) == ("not_expected", "The schedule had had its limit of 2 runs by then.")


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_an_interval_that_beat_never_sent_is_told_by_its_shadow(hands: Hands) -> None:
    made = make(firer="beat", kind="interval", expression="PT1M")
    first = hands.now + timedelta(minutes=1)
    ScheduleRun.objects.create(
        id=uuid.uuid4(), schedule_id=made.pk, organization_id="default", scheduled_for=first, firer="pg",
        origin="shadow", state="fired", fired_at=first,
    )  # fmt: skip
    hands.set("2026-03-02 10:20:00")
    told = api.explain(made.pk, first + timedelta(seconds=90))
    assert (told.state, told.occurrence) == ("other_firer", first + timedelta(minutes=1))
