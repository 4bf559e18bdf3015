"""Mirrors follow Beat's rows that are saved or deleted elsewhere, at once, and never break who saves them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import serializers
from django.db import connection, transaction
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from scheduler import api, following
from scheduler.api import MirrorFailure, PgPeriodicSchedule, ScheduleRun, acting_as
from scheduler.beat import mirror
from scheduler.imports import import_beat
from scheduler.models import BeatLink, ScheduleChange
from tests.scheduler.beat.test_import import beats
from tests.scheduler.beat.test_mirror_failures import raising
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db(transaction=True)


def imported(name: str = "report", **columns: Any) -> PgPeriodicSchedule:
    """The mirror of a row of Beat's, just imported."""
    beats(name, **columns)
    [one] = [one for one in import_beat(organization_id="acme") if one.beat_name == name]
    assert one.row is not None
    return one.row


def beats_row(row: PgPeriodicSchedule) -> PeriodicTask:
    return PeriodicTask.objects.get(name=row.beat_name)


def save(row: PgPeriodicSchedule, **columns: Any) -> None:
    """As dcb's admin does."""
    task = beats_row(row)
    for column, value in columns.items():
        setattr(task, column, value)
    task.save()


def mirrored(row: PgPeriodicSchedule) -> PgPeriodicSchedule:
    return PgPeriodicSchedule.objects.get(pk=row.pk)


MADE = {"imported": imported, "made here": lambda: make(firer="beat", organization_id="acme")}


@pytest.mark.parametrize("made", MADE)
def test_what_is_saved_elsewhere_is_mirrored_at_once(made: str, hands: Hands) -> None:
    row = MADE[made]()
    every = IntervalSchedule.objects.create(every=2, period="hours")
    save(row, crontab=None, interval=every, args="[7]", queue="slow", expires=at("2090-01-01 00:00:00"))
    found = mirrored(row)
    assert (found.kind, found.cron_string, found.interval_seconds) == ("interval", "PT2H", 7200)
    assert (found.args, found.queue, found.ends_at) == ([7], "slow", at("2090-01-01 00:00:00"))
    assert found.next_run_at == hands.now + timedelta(hours=2)
    assert not api.mirror_failures().exists()


def test_an_imported_schedule_keeps_its_name_whatever_the_description() -> None:
    row = imported()
    save(row, description="Ours")
    assert mirrored(row).pipeline_name == "report"


def test_whoever_saved_it_is_in_the_note_of_the_change() -> None:
    row = imported()
    with acting_as("ann"):
        save(row, queue="slow")
    note = ScheduleChange.objects.order_by("-changed_at", "-pk").first()
    assert note is not None
    assert (note.schedule_id, note.action, note.actor) == (row.pk, "update", "ann")
    assert note.fields == {"queue": ["default", "slow"]}


def test_a_save_that_changes_nothing_writes_nothing() -> None:
    row = imported()
    before = PgPeriodicSchedule.objects.values().get()
    save(row)
    assert PgPeriodicSchedule.objects.values().get() == before


def test_pausing_and_resuming_elsewhere_pauses_and_resumes_here_with_the_stretch_in_the_ledger(hands: Hands) -> None:
    row = imported(crontab=CrontabSchedule.objects.create(minute="*/5"))
    save(row, enabled=False)
    paused = mirrored(row)
    assert (paused.state, paused.paused_at, paused.next_run_at) == ("paused", hands.now, at("2026-03-02 10:10:00"))
    hands.set("2026-03-02 10:31:00")
    save(row, enabled=True)
    resumed = mirrored(row)
    assert (resumed.state, resumed.next_run_at) == ("active", at("2026-03-02 10:35:00"))
    [run] = ScheduleRun.objects.all()
    assert (run.state, run.firer, run.occurrences) == ("paused", "beat", 5)
    assert (run.scheduled_for, run.span_end) == (at("2026-03-02 10:10:00"), at("2026-03-02 10:30:00"))


def test_a_one_off_that_is_enabled_again_occurs_again(hands: Hands) -> None:
    row = imported(crontab=CrontabSchedule.objects.create(minute="*/5"), one_off=True, total_run_count=1)
    assert row.state == "ended"
    save(row, enabled=False, total_run_count=0)
    save(row, enabled=True)
    assert (mirrored(row).state, mirrored(row).next_run_at) == ("active", at("2026-03-02 10:10:00"))


def test_a_new_cadence_lifts_a_quarantine() -> None:
    row = imported()
    PgPeriodicSchedule.objects.update(quarantined_at=at("2026-03-02 00:00:00"), quarantine_error="odd", hold="overlap")
    save(row, crontab=CrontabSchedule.objects.create(minute="5"))
    found = mirrored(row)
    assert (found.state, found.quarantine_error, found.hold) == ("active", "", None)


def test_beats_own_write_back_of_its_counts_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    row = imported()
    entry = ModelEntry(beats_row(row))
    sent = next(entry)
    monkeypatch.setattr(following, "find_schedule", lambda task: pytest.fail("it was looked at"))
    sent.save()
    assert beats_row(row).total_run_count == 1


def test_our_own_changes_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "find_schedule", lambda task: pytest.fail("it was looked at"))
    row = make(firer="beat")
    api.update_schedule(row.pk, priority=7)
    api.pause_schedule(row.pk)
    api.delete_schedule(row.pk)
    assert not PeriodicTask.objects.exists()


def test_a_row_that_was_not_imported_is_nobodys() -> None:
    task = beats("theirs")
    task.save()
    task.delete()
    assert not PgPeriodicSchedule.objects.exists()
    assert not MirrorFailure.objects.exists()


def test_a_row_of_a_schedule_that_pg_fires_has_nothing_to_say() -> None:
    row = make()
    save(row, queue="theirs")
    assert mirrored(row).queue == "default"
    assert not MirrorFailure.objects.exists()


@pytest.mark.parametrize("is_in_transaction", [True, False])
def test_a_mirror_that_cannot_be_written_does_not_break_the_save(is_in_transaction: bool) -> None:
    row = imported()
    with raising():
        if is_in_transaction:
            with transaction.atomic():
                save(row, queue="slow")
                PeriodicTask.objects.filter(name=row.beat_name).update(priority=3)
        else:
            save(row, queue="slow")
    assert beats_row(row).queue == "slow"
    [failure] = MirrorFailure.objects.all()
    assert (failure.schedule_id, failure.path, failure.repaired_at) == (row.pk, "follow", None)
    assert "mirror is broken" in failure.error
    save(row)
    assert mirrored(row).queue == "slow"
    assert not api.mirror_failures().exists()


def test_a_failure_to_follow_forgets_nothing_that_was_to_be_written_before() -> None:
    row = make(firer="beat")
    with raising():
        api.update_schedule(row.pk, grace_seconds=77)
        save(row, queue="slow")
    save(row)
    assert (mirrored(row).grace_seconds, mirrored(row).queue) == (77, "slow")


def test_a_mirror_that_cannot_be_asked_for_does_not_break_the_save(caplog: pytest.LogCaptureFixture) -> None:
    row = make(firer="beat")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE scheduler_beatlink RENAME TO gone")
        cursor.execute("ALTER TABLE scheduler_pgperiodicschedule RENAME TO gone_too")
        try:
            task = PeriodicTask.objects.get(name=row.beat_name)
            task.queue = "slow"
            task.save()
            task.delete()
        finally:
            cursor.execute("ALTER TABLE gone RENAME TO scheduler_beatlink")
            cursor.execute("ALTER TABLE gone_too RENAME TO scheduler_pgperiodicschedule")
    assert not PeriodicTask.objects.exists()
    assert caplog.text.count(f"{mirror.EVENT_MIRROR_FAILED} beat_name='{row.pk}'") == 2


def test_a_save_that_is_rolled_back_leaves_the_mirror_as_it_was() -> None:
    row = imported()
    with transaction.atomic():
        save(row, queue="slow")
        transaction.set_rollback(True)
    assert mirrored(row).queue == "default"


def test_what_no_schedule_can_hold_is_not_followed_and_the_rest_is() -> None:
    row = imported()
    half = IntervalSchedule.objects.create(every=500_000, period="microseconds")
    save(row, crontab=None, interval=half, queue="slow")
    assert (mirrored(row).cron_string, mirrored(row).queue) == ("30 6 * * mon-fri", "slow")
    assert not MirrorFailure.objects.exists()


def test_a_row_deleted_elsewhere_takes_its_mirror_with_it(hands: Hands) -> None:
    row = imported(crontab=CrontabSchedule.objects.create(minute="*/5"))
    save(row, enabled=False)
    hands.set("2026-03-02 10:31:00")
    with acting_as("ann"):
        beats_row(row).delete()
    assert not PgPeriodicSchedule.objects.exists()
    [run] = ScheduleRun.objects.all()
    assert (run.state, run.occurrences) == ("paused", 5)
    note = ScheduleChange.objects.get(action="delete")
    assert (note.schedule_id, note.actor) == (row.pk, "ann")


def test_rows_deleted_with_their_crontab_take_their_mirrors_with_them() -> None:
    shared = CrontabSchedule.objects.create(minute="5")
    for name in ("one", "two"):
        imported(name, crontab=shared)
    shared.delete()
    assert not PgPeriodicSchedule.objects.exists()


def test_a_row_deleted_and_made_anew_in_one_transaction_keeps_its_schedule() -> None:
    row = imported()
    api.update_schedule(row.pk, grace_seconds=77)
    with transaction.atomic():
        PeriodicTask.objects.all().delete()
        beats("report", queue="slow")
    found = mirrored(row)
    assert (found.queue, found.grace_seconds, found.organization_id) == ("slow", 77, "acme")


def test_a_row_made_anew_later_gets_the_same_schedule_back() -> None:
    row = imported()
    beats_row(row).delete()
    beats("report", queue="slow")
    found = mirrored(row)
    assert (found.queue, found.organization_id, found.pipeline_name) == ("slow", "acme", "report")


def test_a_schedule_deleted_here_does_not_come_back_with_a_row_of_its_name() -> None:
    row = imported()
    api.delete_schedule(row.pk)
    beats("report")
    assert not PgPeriodicSchedule.objects.exists()
    assert not BeatLink.objects.exists()


def test_a_row_that_is_renamed_keeps_its_schedule() -> None:
    row = imported()
    task = beats_row(row)
    task.name, task.queue = "renamed", "slow"
    task.save()
    found = mirrored(row)
    assert (found.beat_name, found.pipeline_name, found.queue) == ("renamed", "renamed", "slow")
    fields = [change.fields for change in api.last_changes(row.pk, 2)]
    assert {"name": ["report", "renamed"]} in fields
    api.update_schedule(row.pk, priority=9)
    assert PeriodicTask.objects.get().priority == 9


def test_a_schedule_that_was_given_a_name_here_keeps_it_when_its_row_is_renamed() -> None:
    row = imported()
    PgPeriodicSchedule.objects.update(pipeline_name="The report")
    task = beats_row(row)
    task.name = "renamed"
    task.save()
    assert (mirrored(row).beat_name, mirrored(row).pipeline_name) == ("renamed", "The report")


def test_a_row_that_takes_the_name_of_a_renamed_one_is_imported_as_another_schedule() -> None:
    row = imported()
    task = beats_row(row)
    task.name = "renamed"
    task.save()
    other = imported("report")
    assert other.pk != row.pk
    assert {one.beat_name for one in PgPeriodicSchedule.objects.all()} == {"renamed", "report"}


def test_fixtures_are_loaded_without_looking_at_them(monkeypatch: pytest.MonkeyPatch) -> None:
    row = imported()
    written = serializers.serialize("json", [beats_row(row)])
    monkeypatch.setattr(following, "find_schedule", lambda task: pytest.fail("it was looked at"))
    for loaded in serializers.deserialize("json", written):
        loaded.save()


def test_a_change_here_of_an_imported_schedule_keeps_what_only_beat_can_hold() -> None:
    row = imported(exchange="x", routing_key="r", headers='{"h": 1}', expire_seconds=60, description="Theirs")
    api.update_schedule(row.pk, name="Ours", args=["ours"])
    api.pause_schedule(row.pk)
    api.resume_schedule(row.pk)
    task = beats_row(row)
    assert (task.name, task.args, task.description) == ("report", '["ours"]', "Theirs")
    assert (task.exchange, task.routing_key, task.headers) == ("x", "r", '{"h": 1}')
    assert (task.queue, task.priority, task.expire_seconds) == (None, None, 60)
    assert mirrored(row).pipeline_name == "Ours"


def test_an_imported_schedule_whose_mirror_is_lost_is_changed_and_healed_with_its_organization() -> None:
    row = imported()
    PgPeriodicSchedule.objects.all().delete()
    api.update_schedule(row.pk, priority=9)
    found = mirrored(row)
    assert (found.organization_id, found.priority, found.beat_name, found.state) == ("acme", 9, "report", "active")


def test_a_mirror_that_cannot_be_read_is_not_replaced_by_what_beat_knows_of_it() -> None:
    row = imported()
    api.update_schedule(row.pk, grace_seconds=77)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE scheduler_pgperiodicschedule RENAME TO gone")
        try:
            api.update_schedule(row.pk, priority=9)
        finally:
            cursor.execute("ALTER TABLE gone RENAME TO scheduler_pgperiodicschedule")
    api.update_schedule(row.pk, max_attempts=3)
    assert (mirrored(row).priority, mirrored(row).grace_seconds, mirrored(row).max_attempts) == (9, 77, 3)
