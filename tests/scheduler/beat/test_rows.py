"""Beat's rows: what they say, who may find them, and that Beat sees each change."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)

from scheduler import api
from scheduler.api import BeatUnavailable, InvalidInput, PgPeriodicSchedule
from scheduler.beat import rows
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db


def beats(made: PgPeriodicSchedule) -> PeriodicTask:
    """Beat's row of a schedule."""
    return PeriodicTask.objects.get(name=str(made.pk))


def test_a_schedule_that_beat_fires_is_a_periodic_task_and_its_mirror(hands: Hands) -> None:
    made = make(
        firer="beat",
        args=[1],
        kwargs={"a": "b"},
        queue="slow",
        priority=3,
        timezone="Europe/Paris",
        ends_at=at("2027-01-01 00:00:00"),
    )
    task = beats(made)
    assert (task.task, json.loads(task.args), json.loads(task.kwargs)) == ("tests.count", [1], {"a": "b"})
    assert (task.queue, task.priority, task.enabled, task.description) == ("slow", 3, True, "Nightly")
    assert (task.start_time, task.expires, task.interval) == (None, at("2027-01-01 00:00:00"), None)
    assert (task.crontab.minute, task.crontab.hour, str(task.crontab.timezone)) == ("*/5", "*", "Europe/Paris")
    mirrored = PgPeriodicSchedule.objects.get(pk=made.pk)
    assert (mirrored.firer, mirrored.next_run_at) == ("beat", at("2026-03-02 10:10:00"))


def test_a_schedule_that_pg_fires_has_a_disabled_row(hands: Hands) -> None:
    task = beats(make(kind="interval", expression="PT10M"))
    assert (task.enabled, task.interval.every, task.interval.period) == (False, 10, "minutes")


@pytest.mark.parametrize("change", ["resume", "update", "pause"])
def test_no_change_of_a_schedule_that_pg_fires_enables_beats_row(change: str) -> None:
    made = make()
    {
        "resume": lambda: api.resume_schedule(made.pk),
        "update": lambda: api.update_schedule(made.pk, expression="0 0 * * *", enabled=True),
        "pause": lambda: api.pause_schedule(made.pk),
    }[change]()
    assert beats(made).enabled is False


def test_an_expression_that_beat_cannot_hold_has_no_beat_row_while_pg_fires_it() -> None:
    made = make(expression="0 0 1 * 1")
    assert not PeriodicTask.objects.filter(name=str(made.pk)).exists()
    api.update_schedule(made.pk, expression="0 0 1 * *")
    assert beats(made).enabled is False
    api.update_schedule(made.pk, expression="0 0 L * *")
    assert not PeriodicTask.objects.filter(name=str(made.pk)).exists()


def test_an_expression_that_beat_cannot_hold_is_refused_while_beat_fires_it() -> None:
    with pytest.raises(InvalidInput, match=r"expression: expected an expression that Celery Beat.*or firer 'pg'"):
        make(firer="beat", expression="0 0 1 * 1")
    with pytest.raises(InvalidInput, match="an interval of whole seconds"):
        make(firer="beat", kind="interval", expression="PT2148.5S")
    made = make(firer="beat")
    with pytest.raises(InvalidInput, match="expression: expected an expression that Celery Beat"):
        api.update_schedule(made.pk, expression="0 0 L * *")
    assert PgPeriodicSchedule.objects.get(pk=made.pk).cron_string == beats(made).crontab.minute + " * * * *"
    make(firer="beat", expression="0 0 1 * 1", dialect="celery")


def test_deleting_deletes_beats_row_too() -> None:
    for made in (make(), make(firer="beat")):
        api.delete_schedule(made.pk)
        assert not PeriodicTask.objects.filter(name=str(made.pk)).exists()
        assert not PgPeriodicSchedule.objects.filter(pk=made.pk).exists()


def test_pausing_keeps_when_beat_ran_last() -> None:
    made = make(firer="beat")
    before = beats(made).last_run_at
    api.pause_schedule(made.pk)
    assert (beats(made).enabled, beats(made).last_run_at) == (False, before)


def next_send_of_beat(task: PeriodicTask, now: Any) -> Any:
    """When Beat would send next, by Celery's own reckoning from the row."""
    schedule = task.schedule
    schedule.nowfun = lambda: now
    return now + schedule.remaining_estimate(task.last_run_at)


@pytest.mark.parametrize("cadence", [{"expression": "*/5 * * * *"}, {"kind": "interval", "expression": "PT1M"}])
def test_beat_goes_on_after_a_long_pause_without_a_burst(hands: Hands, cadence: dict[str, str]) -> None:
    made = make(firer="beat", **cadence)
    assert next_send_of_beat(beats(made), hands.now) == made.next_run_at
    api.pause_schedule(made.pk)
    hands.set("2026-03-09 10:09:11")
    resumed = api.resume_schedule(made.pk)
    assert resumed.next_run_at is not None
    assert resumed.next_run_at > hands.now
    assert next_send_of_beat(beats(made), hands.now) == resumed.next_run_at


def test_beat_goes_on_after_an_edit_without_a_burst(hands: Hands) -> None:
    made = make(firer="beat", kind="interval", expression="PT1H")
    hands.set("2026-03-02 12:00:00")
    edited = api.update_schedule(made.pk, expression="PT1M")
    assert next_send_of_beat(beats(made), hands.now) == edited.next_run_at == at("2026-03-02 12:01:00")


def test_an_edit_of_anything_else_leaves_beats_last_run_alone(hands: Hands) -> None:
    made = make(firer="beat")
    PeriodicTask.objects.filter(name=str(made.pk)).update(last_run_at=at("2026-03-02 10:05:00"))
    hands.set("2026-03-02 10:09:00")
    api.update_schedule(made.pk, args=[1])
    assert beats(made).last_run_at == at("2026-03-02 10:05:00")


def test_beat_starts_a_later_interval_with_its_start(hands: Hands) -> None:
    starts_at = at("2026-03-03 00:00:00")
    task = beats(make(firer="beat", kind="interval", expression="PT1H", starts_at=starts_at))
    assert next_send_of_beat(task, starts_at) == starts_at


def stamp() -> Any:
    """What Beat compares with the last one it has seen."""
    return PeriodicTasks.last_change()


def test_beat_sees_every_change_also_after_a_stamp_of_a_clock_ahead() -> None:
    made = make(firer="beat")
    PeriodicTasks.objects.update(last_update=stamp() + timedelta(hours=1))
    for act in (
        lambda: api.update_schedule(made.pk, args=[1]),
        lambda: api.pause_schedule(made.pk),
        lambda: api.resume_schedule(made.pk),
        lambda: api.delete_schedule(made.pk),
        lambda: make(firer="beat"),
    ):
        before = stamp()
        act()
        assert stamp() > before


def test_a_disabled_row_of_pg_does_not_make_beat_reload() -> None:
    make(firer="beat")
    before = stamp()
    made = make()
    api.update_schedule(made.pk, expression="1 2 3 4 *")
    api.delete_schedule(made.pk)
    assert stamp() == before


def test_one_cadence_is_one_row_and_a_shared_one_is_never_edited() -> None:
    first, second = make(firer="beat"), make(firer="beat")
    assert beats(first).crontab_id == beats(second).crontab_id
    api.update_schedule(first.pk, expression="1 1 * * *")
    assert beats(second).crontab.minute == "*/5"
    assert beats(first).crontab_id != beats(second).crontab_id


def test_rows_that_are_there_twice_do_not_disturb() -> None:
    for _ in range(2):
        CrontabSchedule.objects.create(minute="*/5", timezone="UTC")
        IntervalSchedule.objects.create(every=1, period="minutes")
    assert beats(make(firer="beat")).crontab_id == CrontabSchedule.objects.order_by("pk")[0].pk
    made = make(kind="interval", expression="PT1M")
    assert beats(made).interval_id == IntervalSchedule.objects.order_by("pk")[0].pk


@contextmanager
def in_thread(work: Any) -> Iterator[threading.Thread]:
    """Run `work` beside the test, its own connection closed at the end."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.django_db(transaction=True)
def test_the_same_new_cadence_made_by_many_at_once_is_one_row() -> None:
    barrier = threading.Barrier(6)

    def create() -> None:
        barrier.wait(60)
        make(firer="beat", expression="17 4 * * *")
        make(firer="beat", kind="interval", expression="PT17M")

    threads = [in_thread(create) for _ in range(6)]
    for thread in threads:
        thread.__enter__()
    for thread in threads:
        thread.__exit__(None, None, None)
    assert PeriodicTask.objects.count() == 12
    assert CrontabSchedule.objects.filter(minute="17").count() == 1
    assert IntervalSchedule.objects.filter(every=17).count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("table", ["django_celery_beat_periodictask", "django_celery_beat_crontabschedule"])
def test_pgs_row_and_beats_disabled_row_are_written_together_or_not_at_all(table: str) -> None:
    """Invariant 7, the other half: where Beat's side cannot be written, PG's is not either."""
    made = make()
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER TABLE "{table}" RENAME TO hidden')
    try:
        for act in (
            lambda: make(expression="3 3 * * *"),
            lambda: api.update_schedule(made.pk, expression="4 4 * * *"),
        ):
            with pytest.raises(Exception, match=table):
                act()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f'ALTER TABLE hidden RENAME TO "{table}"')
    assert [row.cron_string for row in PgPeriodicSchedule.objects.all()] == ["*/5 * * * *"]


def test_a_schedule_whose_beat_row_was_deleted_by_hand_is_not_found_but_can_be_deleted() -> None:
    made = make(firer="beat")
    PeriodicTask.objects.filter(name=str(made.pk)).delete()
    with pytest.raises(api.ScheduleNotFound):
        api.pause_schedule(made.pk)
    api.delete_schedule(made.pk)
    assert not PgPeriodicSchedule.objects.exists()


def test_a_name_that_a_beat_row_has_is_taken() -> None:
    identity = uuid.uuid4()
    PeriodicTask.objects.create(
        name=str(identity), task="x", interval=IntervalSchedule.objects.create(every=1, period="days")
    )
    with pytest.raises(InvalidInput, match="schedule_id: expected an id that no schedule has yet"):
        make(schedule_id=identity)


@pytest.fixture
def without_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that has not installed django-celery-beat."""
    from scheduler import beat

    monkeypatch.setattr(beat, "is_installed", lambda: False)


@pytest.mark.usefixtures("without_beat")
def test_pg_needs_no_django_celery_beat() -> None:
    made = make()
    api.pause_schedule(made.pk)
    api.resume_schedule(made.pk)
    api.update_schedule(made.pk, expression="0 0 * * *")
    api.run_schedule(made.pk)
    api.delete_schedule(made.pk)
    assert not PeriodicTask.objects.exists()


@pytest.mark.usefixtures("without_beat")
def test_beat_as_firer_needs_django_celery_beat() -> None:
    with pytest.raises(BeatUnavailable, match="firer: expected 'pg', because django-celery-beat is not installed"):
        make(firer="beat")


def test_the_projects_own_headers_survive_a_pause() -> None:
    made = make(firer="beat")
    PeriodicTask.objects.filter(name=str(made.pk)).update(headers='{"tenant": "acme"}')
    api.pause_schedule(made.pk)
    assert rows.is_paused_by_us(beats(made))
    api.resume_schedule(made.pk)
    assert json.loads(beats(made).headers) == {"tenant": "acme"}


@pytest.mark.parametrize("firer", ["pg", "beat"])
def test_an_end_set_here_takes_the_place_of_one_in_seconds_set_in_beats_admin(firer: str) -> None:
    made = make(firer=firer)
    task = beats(made)
    task.expire_seconds = 60
    task.save()
    api.update_schedule(made.pk, ends_at=at("2090-01-01 00:00:00"))
    assert (beats(made).expires, beats(made).expire_seconds) == (at("2090-01-01 00:00:00"), None)


def test_a_row_of_pg_says_nothing_that_its_schedule_does_not() -> None:
    made = make()
    PeriodicTask.objects.filter(name=str(made.pk)).update(one_off=True, expire_seconds=60)
    api.update_schedule(made.pk, priority=7)
    assert (beats(made).one_off, beats(made).expire_seconds) == (False, None)


def test_no_end_set_here_leaves_the_one_in_seconds_alone() -> None:
    made = make(firer="beat", ends_at=at("2090-01-01 00:00:00"))
    task = beats(made)
    task.expires, task.expire_seconds = None, 60
    task.save()
    assert api.update_schedule(made.pk, ends_at=None).ends_at is None
    assert (beats(made).expires, beats(made).expire_seconds) == (None, 60)


@pytest.mark.parametrize("firer", ["beat", "pg"])
def test_a_clocked_schedule_is_beats_one_off(hands: Hands, firer: str) -> None:
    made = make(kind="clocked", expression="2026-03-02T12:00:00+01:00", firer=firer)
    task = beats(made)
    assert (task.clocked.clocked_time, task.one_off, task.crontab) == (at("2026-03-02 11:00:00"), True, None)
    assert (made.next_run_at, made.cron_string) == (at("2026-03-02 11:00:00"), "2026-03-02T11:00:00Z")


@pytest.mark.parametrize("firer", ["beat", "pg"])
def test_a_solar_schedule_is_beats_solar_schedule(hands: Hands, firer: str) -> None:
    task = beats(make(kind="solar", expression="Sunset 52.52 13.4050", firer=firer))
    assert (task.solar.event, float(task.solar.latitude), float(task.solar.longitude)) == ("sunset", 52.52, 13.405)
    assert task.one_off is False


def test_schedules_of_one_place_or_instant_share_dcbs_row(hands: Hands) -> None:
    for _ in range(2):
        make(kind="solar", expression="sunset 52.52 13.405", firer="beat")
        make(kind="clocked", expression="2026-03-02T12:00:00Z", firer="beat")
    assert (SolarSchedule.objects.count(), ClockedSchedule.objects.count()) == (1, 1)


def test_a_run_limit_of_one_is_beats_one_off_and_more_than_beat_counts_is_refused(hands: Hands) -> None:
    made = make(firer="beat", run_limit=1)
    assert beats(made).one_off
    api.update_schedule(made.pk, run_limit=None)
    assert not beats(made).one_off
    with pytest.raises(InvalidInput, match="run_limit: expected null or 1"):
        api.update_schedule(made.pk, run_limit=2)
    with pytest.raises(InvalidInput, match="run_limit"):
        make(firer="beat", run_limit=3)


def test_what_is_set_in_beats_row_of_these_kinds_is_kept_by_a_later_edit(hands: Hands) -> None:
    made = make(kind="solar", expression="sunset 52.52 13.405", firer="beat")
    moved = SolarSchedule.objects.create(event="sunrise", latitude="48.2", longitude="16.37")
    PeriodicTask.objects.filter(name=str(made.pk)).update(solar=moved)
    assert api.update_schedule(made.pk, priority=7).cron_string == "sunrise 48.2 16.37"
    later = ClockedSchedule.objects.create(clocked_time=at("2026-04-01 08:00:00"))
    PeriodicTask.objects.filter(name=str(made.pk)).update(solar=None, clocked=later, one_off=True)
    changed = api.update_schedule(made.pk, priority=8)
    assert (changed.kind, changed.cron_string, changed.run_limit) == ("clocked", "2026-04-01T08:00:00Z", None)


def test_an_instant_that_has_passed_is_refused(hands: Hands) -> None:
    with pytest.raises(InvalidInput, match="expression: expected an instant after now"):
        make(kind="clocked", expression="2026-03-02T10:00:00Z")
    made = make(kind="clocked", expression="2026-03-02T12:00:00Z")
    with pytest.raises(InvalidInput, match="expression"):
        api.update_schedule(made.pk, expression="2001-01-01T00:00:00Z")
