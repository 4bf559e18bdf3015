"""What differs between schedules and Beat's rows is found, listed and repaired, whoever made it differ and how."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from pg_queue.api import all_duties
from scheduler import api, following
from scheduler.api import PgPeriodicSchedule, ScheduleRun
from scheduler.beat import pairs
from scheduler.beat.names import CANARY_PREFIX
from scheduler.models import BeatLink, MirrorDrift, ScheduleChange
from tests.scheduler.beat.test_following import beats_row, imported, mirrored
from tests.scheduler.beat.test_import import beats
from tests.scheduler.beat.test_mirror_failures import raising
from tests.scheduler.schedules.making import at, make

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_grace")]

BEAT = "django_celery_beat_periodictask"
OURS = "scheduler_pgperiodicschedule"


def execute(statement: str, *parameters: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def run(*arguments: str, code: int = 0) -> str:
    """What the command writes to stdout, once it has ended with this code."""
    written, ended = StringIO(), 0
    try:
        call_command("reconcile_schedules", *arguments, stdout=written, stderr=StringIO())
    except CommandError as error:
        ended = error.returncode
    assert ended == code, written.getvalue()
    return written.getvalue()


def found(*arguments: str, code: int = 0) -> list[tuple[str, str, str]]:
    """Name, kind and outcome of each difference that it reports."""
    lines = map(json.loads, run(*arguments, "--json", code=code).splitlines())
    return sorted((line["name"], line["what"], line["outcome"]) for line in lines if line["event"] == "drift")


def duty() -> int:
    """One round of the duty by its name."""
    [rounds] = [duty for duty in all_duties() if duty.name == "reconcile"]
    return rounds.run()


def update(row: PgPeriodicSchedule, **columns: Any) -> None:
    PeriodicTask.objects.filter(name=row.beat_name).update(**columns)


def of_beat(**fields: Any) -> PgPeriodicSchedule:
    return make(firer="beat", organization_id="acme", **fields)


@pytest.mark.parametrize("made", [imported, of_beat], ids=["imported", "made here"])
def test_what_was_changed_by_update_is_taken_over_once(made: Callable[[], PgPeriodicSchedule]) -> None:
    row = made()
    assert found() == []
    hourly = IntervalSchedule.objects.create(every=1, period="hours")
    update(row, crontab=None, interval=hourly, queue="slow", args="[7]", enabled=False)
    assert found() == [(row.beat_name, "stale", "repaired")]
    known = mirrored(row)
    assert (known.cron_string, known.queue, known.args, known.state) == ("PT1H", "slow", [7], "paused")
    listed = MirrorDrift.objects.get()
    assert (listed.schedule_id, listed.organization_id, listed.error) == (row.pk, "acme", "")
    assert listed.details["queue"] == ["default", "slow"]
    assert listed.repaired_at is not None
    note = ScheduleChange.objects.latest("changed_at")
    assert note.actor.endswith("manage.py reconcile_schedules")
    assert found() == []
    assert duty() == 0


def test_a_shared_crontab_that_was_edited_reaches_each_of_its_schedules() -> None:
    shared = CrontabSchedule.objects.create(minute="5")
    rows = [imported(name, crontab=shared) for name in ("one", "two")]
    CrontabSchedule.objects.filter(pk=shared.pk).update(minute="6")
    assert [name for name, _, _ in found()] == ["one", "two"]
    assert {mirrored(row).cron_string for row in rows} == {"6 * * * *"}


def test_rows_of_every_kind_are_read_as_the_models_read_them() -> None:
    place = {"latitude": Decimal("52.52"), "longitude": Decimal("13.405")}
    imported("once", clocked=ClockedSchedule.objects.create(clocked_time=at("2090-12-24 18:00:00")), one_off=True)
    imported("sun", solar=SolarSchedule.objects.create(event="sunset", **place))
    imported("every", interval=IntervalSchedule.objects.create(every=90, period="minutes"), kwargs='{"a": [1.5, null]}')
    imported("crontab", start_time=at("2090-01-01 00:00:00"), expires=at("2091-01-01 00:00:00"), priority=9)
    execute("UPDATE scheduler_beatlink SET fingerprint = NULL")
    assert found() == []
    assert not BeatLink.objects.filter(fingerprint=None).exists()


def test_a_row_renamed_by_sql_keeps_its_schedule() -> None:
    row = imported()
    update(row, name="renamed", queue="slow")
    assert found() == [("renamed", "stale", "repaired")]
    assert (mirrored(row).beat_name, mirrored(row).pipeline_name, mirrored(row).queue) == ("renamed", "renamed", "slow")
    names = {"beat_name": ["report", "renamed"], "name": ["report", "renamed"]}
    assert MirrorDrift.objects.get().details == {**names, "queue": ["default", "slow"]}
    assert found() == []
    update(mirrored(row), name="again")
    assert found() == [("again", "stale", "repaired")]


def test_a_row_deleted_by_sql_takes_its_mirror_with_it_once_it_was_missed_twice() -> None:
    row = imported(crontab=CrontabSchedule.objects.create(minute="*", timezone="UTC"))
    execute(f"DELETE FROM {BEAT}")
    assert duty() == 1
    assert mirrored(row).state == "active"
    gone = MirrorDrift.objects.get()
    assert (gone.what, gone.repaired_at) == ("orphaned", None)
    PgPeriodicSchedule.objects.update(next_run_at=timezone.now() - timedelta(minutes=10))
    MirrorDrift.objects.update(found_at=timezone.now() - timedelta(minutes=3))
    assert duty() == 1
    assert not PgPeriodicSchedule.objects.exists()
    [unfired] = ScheduleRun.objects.all()
    assert (unfired.state, unfired.firer) == ("expired", "beat")
    assert unfired.occurrences in {3, 4}  # by the minute that may pass meanwhile
    assert found() == []
    assert not api.open_drift().exists()


def test_a_row_that_comes_back_within_the_grace_keeps_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "ORPHAN_GRACE_SECONDS", 3600)
    row = imported()
    api.update_schedule(row.pk, grace_seconds=77)
    execute(f"DELETE FROM {BEAT}")
    assert (duty(), duty()) == (1, 1)
    PeriodicTask.objects.bulk_create([PeriodicTask(name="report", task="t", crontab=CrontabSchedule.objects.create())])
    duty()
    assert (mirrored(row).grace_seconds, mirrored(row).task) == (77, "t")
    assert not api.open_drift().exists()


def test_the_command_looks_twice_for_a_row_that_is_gone() -> None:
    row = imported()
    execute(f"DELETE FROM {BEAT}")
    assert found("--dry-run") == [("report", "orphaned", "found")]
    assert found("--schedule", str(row.pk)) == [("report", "orphaned", "repaired")]
    assert not PgPeriodicSchedule.objects.exists()


def test_a_mirror_that_was_lost_is_made_anew_and_rows_that_nobody_imported_are_left_alone() -> None:
    theirs, ours = imported(), of_beat(args=[1])
    beats("nobody's")
    beats(f"{CANARY_PREFIX}x", one_off=True)
    duty()
    execute(f"DELETE FROM {OURS}")
    assert {what for _, what, _ in found()} == {"missing"}
    assert (mirrored(theirs).organization_id, mirrored(theirs).beat_name) == ("acme", "report")
    assert (mirrored(ours).organization_id, mirrored(ours).args) == ("acme", [1])
    assert PgPeriodicSchedule.objects.count() == 2


def test_a_mirror_of_an_unknown_organization_becomes_one_of_the_default_and_says_so() -> None:
    row = of_beat()
    execute(f"DELETE FROM {OURS}")
    assert "its organization is not known" in run()
    assert mirrored(row).organization_id == "default"


def test_a_write_of_the_mirror_that_was_lost_is_made_good() -> None:
    row = of_beat()
    duty()
    with raising():
        api.update_schedule(row.pk, grace_seconds=77)
        created = of_beat(name="Lost", jitter_seconds=7)
    assert found() == sorted([(row.beat_name, "stale", "repaired"), (created.beat_name, "missing", "repaired")])
    assert (mirrored(row).grace_seconds, mirrored(created).jitter_seconds) == (77, 7)
    assert mirrored(created).organization_id == "acme"
    assert not api.mirror_failures().exists()


@pytest.mark.parametrize(
    ("spoil", "details"),
    [
        (f"DELETE FROM {BEAT}", {"row": [False, True]}),
        (f"UPDATE {BEAT} SET queue = 'theirs'", {"queue": ["theirs", "default"]}),
        (f"UPDATE {BEAT} SET one_off = true", {"cron_string": ["*/5 * * * *", "*/5 * * * *"]}),
        (f"UPDATE {OURS} SET args = '[7]'", {"args": [[], [7]]}),
    ],
)
def test_beats_row_of_a_schedule_of_pgs_is_put_right(spoil: str, details: dict[str, Any]) -> None:
    row = make()
    assert duty() == 0
    execute(spoil)
    before = mirrored(row)
    assert found() == [(row.beat_name, "beat_row", "repaired")]
    assert MirrorDrift.objects.get().details == details
    task = beats_row(row)
    assert (task.enabled, task.queue, task.one_off, task.args) == (False, "default", False, json.dumps(before.args))
    assert found() == []


def test_beats_row_that_was_enabled_while_the_tripwire_was_removed_is_disabled() -> None:
    row = make()
    execute(f"ALTER TABLE {BEAT} DISABLE TRIGGER scheduler_guard_beat")
    try:
        update(row, enabled=True)
    finally:
        execute(f"ALTER TABLE {BEAT} ENABLE TRIGGER scheduler_guard_beat")
    assert found() == [(row.beat_name, "beat_row", "repaired")]
    assert not beats_row(row).enabled


def test_a_schedule_that_beat_cannot_hold_has_no_row_there_and_that_is_no_difference() -> None:
    row = make(expression="0 0 1 * 1")
    assert found() == []
    beats(row.beat_name, enabled=False)
    assert found() == [(row.beat_name, "beat_row", "repaired")]
    assert not PeriodicTask.objects.exists()


def test_what_is_being_handed_over_is_left_alone() -> None:
    ours, rolling_back, theirs = make(), make(), of_beat()
    PgPeriodicSchedule.objects.exclude(pk=rolling_back.pk).update(hold="handover")
    PgPeriodicSchedule.objects.filter(pk=rolling_back.pk).update(beat_from=timezone.now())
    PeriodicTask.objects.update(queue="theirs")
    assert found() == []
    execute(f"DELETE FROM {BEAT} WHERE name = %s", theirs.beat_name)
    assert duty() == 0
    PgPeriodicSchedule.objects.filter(pk=ours.pk).update(hold=None)
    assert found() == [(ours.beat_name, "beat_row", "repaired")]


def test_a_hand_over_that_begins_while_it_is_repaired_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    row = imported()
    update(row, queue="slow")
    follow = following.follow

    def late(schedule_id: Any) -> Any:
        PgPeriodicSchedule.objects.filter(pk=schedule_id).update(hold="handover")
        return follow(schedule_id)

    monkeypatch.setattr(following, "follow", late)
    assert found() == []
    assert (mirrored(row).queue, MirrorDrift.objects.count()) == ("default", 0)


def test_a_dry_run_lists_everything_and_stores_nothing() -> None:
    stale, lost, ours = imported("stale"), imported("lost"), make()
    update(stale, queue="slow")
    execute(f"DELETE FROM {OURS} WHERE beat_name = 'lost'")
    update(ours, queue="theirs")
    before = [list(model.objects.order_by("pk").values()) for model in (PgPeriodicSchedule, PeriodicTask, BeatLink)]
    assert found("--dry-run") == sorted(
        [("stale", "stale", "found"), ("lost", "missing", "found"), (ours.beat_name, "beat_row", "found")]
    )
    text = run("--dry-run")
    assert 'queue: "default" → "slow"' in text
    assert "3 would be repaired." in text
    after = [list(model.objects.order_by("pk").values()) for model in (PgPeriodicSchedule, PeriodicTask, BeatLink)]
    assert after == before
    assert not MirrorDrift.objects.exists()
    assert lost.pk not in PgPeriodicSchedule.objects.values_list("pk", flat=True)


def test_one_that_cannot_be_repaired_stops_no_other_and_is_listed_until_it_is() -> None:
    rows = [imported(name) for name in ("one", "two", "three")]
    PeriodicTask.objects.update(queue="slow")
    execute(f"ALTER TABLE {OURS} ADD CONSTRAINT refuse CHECK (beat_name <> 'two' OR queue <> 'slow') NOT VALID")
    try:
        expected = [("one", "stale", "repaired"), ("three", "stale", "repaired"), ("two", "stale", "failed")]
        assert found(code=6) == expected
        assert found(code=6) == [("two", "stale", "failed")]
        assert "refuse" in run(code=6)
        listed = api.open_drift().get()
        assert (listed.beat_name, listed.details) == ("two", {"queue": ["default", "slow"]})
        assert duty() == 1
    finally:
        execute(f"ALTER TABLE {OURS} DROP CONSTRAINT refuse")
    assert found() == [("two", "stale", "repaired")]
    assert {mirrored(row).queue for row in rows} == {"slow"}
    assert not api.open_drift().exists()


def test_what_no_schedule_can_hold_stays_on_the_list_and_the_rest_of_it_is_followed() -> None:
    row = imported()
    half = IntervalSchedule.objects.create(every=500_000, period="microseconds")
    update(row, crontab=None, interval=half, queue="slow")
    assert found(code=6) == [("report", "stale", "failed")]
    assert mirrored(row).queue == "slow"
    assert "expected a duration" in api.open_drift().get().error
    update(row, interval=IntervalSchedule.objects.create(every=1, period="hours"))
    assert found() == [("report", "stale", "repaired")]
    assert not api.open_drift().exists()


def test_rows_that_cannot_even_be_read_are_reported_and_stop_no_other() -> None:
    odd, fine = imported("odd"), imported("fine")
    update(fine, queue="slow")
    execute(f"UPDATE {BEAT} SET expires = 'infinity' WHERE name = 'odd'")
    assert found(code=6) == [("fine", "stale", "repaired"), ("odd", "stale", "failed")]
    execute(f"UPDATE {BEAT} SET expires = NULL WHERE name = 'odd'")
    assert found() == []
    assert not api.open_drift().exists()
    assert mirrored(odd).ends_at is None


def test_a_difference_that_is_gone_by_itself_leaves_the_list() -> None:
    row = imported()
    MirrorDrift.objects.create(schedule_id=row.pk, beat_name="report", what="stale", error="x")
    MirrorDrift.objects.create(schedule_id=make().pk, beat_name="y", what="beat_row")
    deleted = make()
    api.delete_schedule(deleted.pk)
    MirrorDrift.objects.create(schedule_id=deleted.pk, beat_name="z", what="missing")
    assert found() == []
    assert not api.open_drift().exists()


def test_options_are_refused_by_name_and_one_schedule_can_be_asked_for() -> None:
    rows = [imported(name) for name in ("one", "two")]
    PeriodicTask.objects.update(queue="slow")
    with pytest.raises(CommandError, match="--schedule: expected a UUID, got: 'x'"):
        call_command("reconcile_schedules", "--schedule", "x")
    run("--schedule", "x", code=2)
    run("--schedule", "6b1f4c1e-2f0a-4a53-9d0e-9c9b5b7f0b3a", code=5)
    assert found("--schedule", str(rows[1].pk)) == [("two", "stale", "repaired")]
    assert mirrored(rows[0]).queue == "default"
