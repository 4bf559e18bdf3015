"""Edit, pause, resume, delete: no burst, no occurrence unaccounted for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from scheduler import api
from scheduler.api import InvalidInput, PgPeriodicSchedule, ScheduleRun
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db


def ledger(made: PgPeriodicSchedule) -> list[tuple[Any, ...]]:
    """The schedule's ledger rows, oldest first."""
    rows = ScheduleRun.objects.filter(schedule_id=made.pk).order_by("scheduled_for")
    return list(rows.values_list("state", "scheduled_for", "span_end", "occurrences"))


def quarantine(made: PgPeriodicSchedule, **columns: Any) -> None:
    """As the tick does with a row that it cannot evaluate, `columns` written past every check."""
    hold = {"quarantined_at": made.created_at, "quarantine_error": "expression: expected five fields"}
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(**hold, **columns)


def test_a_crontab_resumed_after_a_long_pause_fires_next_at_its_next_match(hands: Hands) -> None:
    made = make()
    hands.set("2026-03-02 10:08:00")
    api.pause_schedule(made.pk, reason="maintenance")
    hands.set("2026-03-05 10:08:00")
    resumed = api.resume_schedule(made.pk)
    assert resumed.next_run_at == at("2026-03-05 10:10:00")
    assert (resumed.enabled, resumed.paused_at, resumed.pause_note) == (True, None, "")
    assert ledger(made) == [("paused", at("2026-03-02 10:10:00"), at("2026-03-05 10:05:00"), 3 * 288)]


def test_an_interval_resumed_after_a_long_pause_goes_on_along_its_grid(hands: Hands) -> None:
    made = make(kind="interval", expression="PT1M")
    api.pause_schedule(made.pk)
    hands.set("2026-03-09 10:08:00")
    assert api.resume_schedule(made.pk).next_run_at == at("2026-03-09 10:08:30")
    assert ledger(made) == [("paused", at("2026-03-02 10:08:30"), at("2026-03-09 10:07:30"), 7 * 1440)]


def test_an_occurrence_at_the_instant_of_resuming_was_paused(hands: Hands) -> None:
    made = make(kind="interval", expression="PT1M")
    api.pause_schedule(made.pk)
    hands.set("2026-03-02 10:08:30")
    assert api.resume_schedule(made.pk).next_run_at == at("2026-03-02 10:09:30")
    assert ledger(made) == [("paused", at("2026-03-02 10:08:30"), None, 1)]


def test_resuming_before_anything_was_missed_changes_no_occurrence(hands: Hands) -> None:
    made = make()
    api.pause_schedule(made.pk)
    hands.set("2026-03-02 10:09:59")
    assert api.resume_schedule(made.pk).next_run_at == made.next_run_at
    assert ledger(made) == []


def test_resuming_after_the_end_leaves_nothing_ahead(hands: Hands) -> None:
    made = make(ends_at=at("2026-03-02 10:20:00"))
    api.pause_schedule(made.pk)
    hands.set("2026-03-03 00:00:00")
    resumed = api.resume_schedule(made.pk)
    assert (resumed.next_run_at, resumed.state) == (None, "ended")
    assert ledger(made) == [("paused", at("2026-03-02 10:10:00"), at("2026-03-02 10:15:00"), 2)]


def test_resuming_what_is_not_paused_changes_no_occurrence(hands: Hands) -> None:
    made = make()
    hands.set("2026-03-02 10:10:01")  # due, and the tick has not come yet
    assert api.resume_schedule(made.pk).next_run_at == at("2026-03-02 10:10:00")
    assert ledger(made) == []


def test_what_is_due_and_not_fired_when_it_is_paused_is_expired_and_only_the_rest_paused(hands: Hands) -> None:
    made = make()
    hands.set("2026-03-02 12:16:00")  # nobody has ticked for two hours
    paused = api.pause_schedule(made.pk, reason="now")
    assert (paused.enabled, paused.paused_at, paused.pause_note) == (False, hands.now, "now")
    assert paused.next_run_at == at("2026-03-02 12:20:00")
    expired = ("expired", at("2026-03-02 10:10:00"), at("2026-03-02 12:15:00"), 26)
    assert ledger(made) == [expired]
    assert ScheduleRun.objects.get(schedule_id=made.pk).error["type"] == "schedule.paused"
    hands.set("2026-03-02 12:31:00")
    api.resume_schedule(made.pk)
    assert ledger(made) == [expired, ("paused", at("2026-03-02 12:20:00"), at("2026-03-02 12:30:00"), 3)]


@pytest.mark.parametrize(
    "act", [lambda pk: api.delete_schedule(pk), lambda pk: api.update_schedule(pk, timezone="Asia/Tokyo")]
)
def test_what_was_due_before_a_pause_is_not_counted_again(act: Any, hands: Hands) -> None:
    made = make(kind="interval", expression="PT1M")
    hands.set("2026-03-02 10:10:00")
    api.update_schedule(made.pk, enabled=False)
    hands.set("2026-03-02 10:12:00")
    act(made.pk)
    assert ledger(made) == [
        ("expired", at("2026-03-02 10:08:30"), at("2026-03-02 10:09:30"), 2),
        ("paused", at("2026-03-02 10:10:30"), at("2026-03-02 10:11:30"), 2),
    ]


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_what_beat_fires_leaves_nothing_overdue_when_it_is_paused(hands: Hands) -> None:
    made = make(firer="beat")
    hands.set("2026-03-02 12:16:00")
    assert api.pause_schedule(made.pk).next_run_at == at("2026-03-02 12:20:00")
    assert ledger(made) == []


def test_a_quarantine_is_no_pause_also_where_it_was_paused_afterwards(hands: Hands) -> None:
    made = make()
    quarantine(made, timezone="Nowhere")
    hands.set("2026-03-02 11:01:00")
    api.pause_schedule(made.pk)
    hands.set("2026-03-02 12:01:00")
    api.update_schedule(made.pk, timezone="UTC", enabled=True)
    run = ScheduleRun.objects.get(schedule_id=made.pk)
    assert (run.state, run.scheduled_for, run.error["type"]) == (
        "expired",
        at("2026-03-02 10:10:00"),
        "schedule.quarantined",
    )


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_what_beat_fires_was_paused_also_where_the_shadow_has_set_it_aside(hands: Hands) -> None:
    made = make(firer="beat")
    quarantine(made)
    hands.set("2026-03-02 12:16:00")
    api.pause_schedule(made.pk)
    hands.set("2026-03-02 12:31:00")
    api.resume_schedule(made.pk)
    assert ledger(made) == [("paused", at("2026-03-02 12:20:00"), at("2026-03-02 12:30:00"), 3)]


def test_pausing_again_changes_the_reason_alone(hands: Hands) -> None:
    made = make()
    api.pause_schedule(made.pk, reason="first")
    since = hands.now
    hands.set("2026-03-02 11:00:00")
    again = api.pause_schedule(made.pk, reason="second")
    assert (again.paused_at, again.pause_note) == (since, "second")


@pytest.mark.parametrize(
    "change",
    [
        {"expression": "*/7 * * * *"},
        {"timezone": "Asia/Tokyo"},
        {"dialect": "celery"},
        {"kind": "interval", "expression": "PT1M"},
        {"starts_at": at("2020-01-01 00:00:00")},
    ],
)
def test_an_edit_of_the_cadence_fires_next_after_now(hands: Hands, change: dict[str, Any]) -> None:
    made = make()
    hands.set("2026-03-02 10:10:01")  # 10:10:00 is due
    edited = api.update_schedule(made.pk, **change)
    assert edited.next_run_at is not None
    assert edited.next_run_at > hands.now
    assert ledger(made) == [("expired", at("2026-03-02 10:10:00"), None, 1)]
    reason = ScheduleRun.objects.get(schedule_id=made.pk).error
    assert reason["type"] == "schedule.edited"


def test_an_interval_edited_to_another_period_begins_anew(hands: Hands) -> None:
    made = make(kind="interval", expression="PT1H")
    hands.set("2026-03-02 10:30:00")
    assert api.update_schedule(made.pk, expression="PT10M").next_run_at == at("2026-03-02 10:40:00")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Another"},
        {"args": [1]},
        {"queue": "slow"},
        {"priority": 1},
        {"grace_seconds": 5},
        {"expression": " */5  * * * * ", "kind": "crontab", "timezone": "UTC", "dialect": "unix", "starts_at": None},
        {"ends_at": at("2027-01-01 00:00:00")},
    ],
)
def test_any_other_edit_leaves_the_next_occurrence_alone(hands: Hands, change: dict[str, Any]) -> None:
    made = make()
    hands.set("2026-03-02 10:10:01")
    assert api.update_schedule(made.pk, **change).next_run_at == at("2026-03-02 10:10:00")
    assert ledger(made) == []


def test_an_interval_written_back_unchanged_keeps_its_phase(hands: Hands) -> None:
    made = make(kind="interval", expression="PT1H")
    hands.set("2026-03-02 10:30:00")
    assert api.update_schedule(made.pk, kind="interval", expression="pt1h").next_run_at == made.next_run_at


def test_an_earlier_end_cuts_off_and_a_later_one_gives_back(hands: Hands) -> None:
    made = make()
    assert api.update_schedule(made.pk, ends_at=at("2026-03-02 10:10:00")).next_run_at is None
    hands.set("2026-03-02 12:00:00")
    assert api.update_schedule(made.pk, ends_at=None).next_run_at == at("2026-03-02 12:05:00")
    assert ledger(made) == []


def test_an_edit_while_paused_accounts_for_the_pause_so_far(hands: Hands) -> None:
    made = make()
    api.pause_schedule(made.pk)
    hands.set("2026-03-02 10:21:00")
    edited = api.update_schedule(made.pk, expression="0 * * * *")
    assert (edited.enabled, edited.next_run_at) == (False, at("2026-03-02 11:00:00"))
    hands.set("2026-03-02 12:30:00")
    assert api.resume_schedule(made.pk).next_run_at == at("2026-03-02 13:00:00")
    assert ledger(made) == [
        ("paused", at("2026-03-02 10:10:00"), at("2026-03-02 10:20:00"), 3),
        ("paused", at("2026-03-02 11:00:00"), at("2026-03-02 12:00:00"), 2),
    ]


def test_an_edit_of_enabled_pauses_and_resumes(hands: Hands) -> None:
    made = make()
    paused = api.update_schedule(made.pk, enabled=False, pause_note="why")
    assert (paused.state, paused.pause_note, paused.paused_at) == ("paused", "why", hands.now)
    hands.set("2026-03-02 10:21:00")
    assert api.update_schedule(made.pk, enabled=True, name="Again").next_run_at == at("2026-03-02 10:25:00")
    assert ledger(made) == [("paused", at("2026-03-02 10:10:00"), at("2026-03-02 10:20:00"), 3)]


@pytest.mark.parametrize(
    "act",
    [
        lambda pk: api.update_schedule(pk, name="Other"),
        lambda pk: api.pause_schedule(pk),
        lambda pk: api.resume_schedule(pk),
    ],
)
@pytest.mark.parametrize(
    "firer", ["pg", pytest.param("beat", marks=pytest.mark.postgresql("beside SQLite Celery Beat fires nothing"))]
)
def test_updated_at_moves_on_every_change(act: Any, firer: str) -> None:
    made = make(firer=firer)
    act(made.pk)
    first = PgPeriodicSchedule.objects.get(pk=made.pk).updated_at
    act(made.pk)
    assert made.updated_at < first < PgPeriodicSchedule.objects.get(pk=made.pk).updated_at
    assert PgPeriodicSchedule.objects.get(pk=made.pk).created_at == made.created_at


def test_an_edit_lifts_a_quarantine_and_fires_next_after_now(hands: Hands) -> None:
    made = make()
    quarantine(made, cron_string="not a crontab")
    hands.set("2026-03-02 11:01:00")
    with pytest.raises(InvalidInput, match="expression: expected five fields"):
        api.update_schedule(made.pk, name="Still wrong")
    edited = api.update_schedule(made.pk, expression="*/5 * * * *")
    assert (edited.quarantined_at, edited.quarantine_error, edited.state) == (None, "", "active")
    assert edited.next_run_at == at("2026-03-02 11:05:00")
    assert ledger(made) == [("expired", at("2026-03-02 10:10:00"), None, None)]


def test_a_quarantined_schedule_can_be_paused_and_deleted_as_it_is(hands: Hands) -> None:
    made = make()
    quarantine(made, cron_string="not a crontab", timezone="Nowhere")
    hands.set("2026-03-02 11:01:00")
    assert api.pause_schedule(made.pk).enabled is False
    api.delete_schedule(made.pk)
    assert not PgPeriodicSchedule.objects.exists()


def test_resuming_a_quarantined_schedule_tries_it_again(hands: Hands) -> None:
    made = make()
    quarantine(made, timezone="Nowhere")
    hands.set("2026-03-02 11:01:00")
    with pytest.raises(InvalidInput, match="timezone"):
        api.resume_schedule(made.pk)
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(timezone="UTC")
    resumed = api.resume_schedule(made.pk)
    assert (resumed.state, resumed.next_run_at) == ("active", at("2026-03-02 11:05:00"))
    assert ledger(made) == [("expired", at("2026-03-02 10:10:00"), at("2026-03-02 11:00:00"), 11)]


def test_a_deleted_schedules_runs_stay(hands: Hands) -> None:
    made = make()
    run = api.run_schedule(made.pk)
    hands.set("2026-03-02 10:11:00")
    api.delete_schedule(made.pk)
    assert not PgPeriodicSchedule.objects.exists()
    kept = ScheduleRun.objects.of_schedule(made.pk).order_by("scheduled_for")
    assert kept[0].id == run.id
    assert [row.state for row in kept] == ["fired", "expired"]
    assert kept[1].error["type"] == "schedule.deleted"


def test_a_second_of_a_day_long_pause_is_one_row(hands: Hands) -> None:
    made = make(kind="interval", expression="PT1S")
    api.pause_schedule(made.pk)
    hands.now += timedelta(days=1)
    api.resume_schedule(made.pk)
    assert [row[3] for row in ledger(made)] == [86_400]
