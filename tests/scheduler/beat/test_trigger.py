"""The guard of Beat's rows, against a real `DatabaseScheduler` in this process and two sessions at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from django.core.management import call_command
from django.db import connection, transaction
from django.utils.timezone import now
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from scheduler import api
from scheduler.api import PgPeriodicSchedule
from scheduler.beat import trigger
from tests.scheduler.schedules.making import make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def app() -> Celery:
    """A Celery app whose messages go nowhere."""
    app = Celery("tests", broker="memory://")
    app.conf.update(timezone="UTC", result_expires=None)
    return app


def beats(made: PgPeriodicSchedule) -> PeriodicTask:
    return PeriodicTask.objects.get(name=str(made.pk))


def sent(made: PgPeriodicSchedule, app: Celery) -> ModelEntry:
    """Beat's entry of the schedule after one send that is not yet written back."""
    return next(ModelEntry(beats(made), app=app))


def hand_over(made: PgPeriodicSchedule) -> None:
    """As a cutover does: PG owns the schedule, and Beat's row is disabled, in one transaction."""
    with transaction.atomic():
        PgPeriodicSchedule.objects.filter(pk=made.pk).update(firer="pg")
        PeriodicTask.objects.filter(name=made.beat_name).update(enabled=False)


def hold_back(monkeypatch: pytest.MonkeyPatch, meanwhile: Any) -> None:
    """`ModelEntry.save` reads the row; `meanwhile` is committed by another session; only then does it write."""
    save, done = PeriodicTask.save, []

    def late_save(self: PeriodicTask, *args: object, **kwargs: object) -> None:
        if not done:
            done.append(True)
            thread = threading.Thread(target=lambda: (meanwhile(), connection.close()))
            thread.start()
            thread.join(60)
            assert not thread.is_alive()
        save(self, *args, **kwargs)

    monkeypatch.setattr(PeriodicTask, "save", late_save)


def test_a_stale_write_back_cannot_enable_a_row_that_pg_owns(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(firer="beat")
    entry = sent(made, app)
    hold_back(monkeypatch, lambda: hand_over(made))
    entry.save()
    assert (beats(made).enabled, beats(made).total_run_count) == (False, 1)


def test_a_stale_write_back_cannot_undo_a_pause_that_was_committed(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(firer="beat")
    entry = sent(made, app)
    hold_back(monkeypatch, lambda: PeriodicTask.objects.filter(pk=beats(made).pk).update(enabled=False))
    entry.save()
    assert (beats(made).enabled, beats(made).total_run_count) == (False, 1)


def test_a_stale_write_back_cannot_undo_an_edit_that_was_committed(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(firer="beat")
    entry = sent(made, app)
    hold_back(monkeypatch, lambda: PeriodicTask.objects.filter(pk=beats(made).pk).update(args="[7]", priority=9))
    entry.save()
    assert (beats(made).args, beats(made).priority, beats(made).total_run_count) == ("[7]", 9, 1)


def test_writing_back_a_disabled_row_does_not_empty_when_it_ran_last(app: Celery) -> None:
    made = make(firer="beat")
    entry, ran_at = sent(made, app), beats(made).last_run_at
    assert ran_at is not None
    api.pause_schedule(made.pk)
    entry.save()
    assert (beats(made).enabled, beats(made).last_run_at) == (False, ran_at)


def test_a_write_back_never_moves_the_last_run_backwards(app: Celery) -> None:
    made = make(firer="beat")
    entry = sent(made, app)
    later = entry.model.last_run_at + timedelta(hours=1)
    PeriodicTask.objects.filter(pk=beats(made).pk).update(last_run_at=later)
    entry.save()
    assert beats(made).last_run_at == later


def test_a_write_back_of_a_row_that_beat_fires_is_written_back(app: Celery) -> None:
    made = make(firer="beat")
    entry = sent(made, app)
    entry.save()
    written = beats(made)
    assert (written.enabled, written.total_run_count, written.last_run_at) == (True, 1, entry.model.last_run_at)


@pytest.mark.parametrize(
    "write",
    [
        lambda name: PeriodicTask.objects.filter(name=name).update(enabled=True),
        lambda name: _save(PeriodicTask.objects.get(name=name)),
        lambda name: _execute("UPDATE django_celery_beat_periodictask SET enabled = true WHERE name = %s", name),
        lambda name: _execute(
            "UPDATE django_celery_beat_periodictask SET enabled = true, total_run_count = 9 WHERE name = %s", name
        ),
    ],
    ids=["queryset", "model", "sql", "sql that looks like a write-back"],
)
def test_a_row_that_pg_owns_stays_disabled_whoever_writes(write: Any) -> None:
    made = make()
    write(str(made.pk))
    assert beats(made).enabled is False


def test_a_row_inserted_for_a_schedule_that_pg_owns_is_disabled() -> None:
    made = make(expression="0 0 1 * 1")  # has no Beat row
    every_day = IntervalSchedule.objects.create(every=1, period="days")
    PeriodicTask.objects.create(name=str(made.pk), task="x", interval=every_day, enabled=True)
    assert beats(made).enabled is False


def test_a_row_that_is_nobodys_is_left_alone() -> None:
    every_day = IntervalSchedule.objects.create(every=1, period="days")
    task = PeriodicTask.objects.create(name="nightly", task="x", interval=every_day, enabled=False)
    task.enabled, task.args = True, "[1]"
    task.save()
    task.refresh_from_db()
    assert (task.enabled, task.args) == (True, "[1]")


def _save(task: PeriodicTask) -> None:
    task.enabled = True
    task.save()


def _execute(statement: str, *parameters: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


class Beat(DatabaseScheduler):
    """The real scheduler; what it would publish is kept."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.sends: list[str] = []
        super().__init__(*args, **kwargs)

    def apply_async(self, entry: ModelEntry, *args: Any, **kwargs: Any) -> None:
        """Keep the name of what is sent; reserve the entry, as the original does."""
        entry = self.reserve(entry) if kwargs.get("advance", True) else entry
        self.sends.append(entry.name)

    @property
    def max_interval(self) -> float:
        return 1.0

    @max_interval.setter
    def max_interval(self, value: float) -> None:
        """Fixed."""


@pytest.fixture
def start_beat(app: Celery) -> Iterator[Callable[[], Beat]]:
    """Starts a Beat that the test ticks. It may miss what changes before its first tick: start it after that."""
    running: list[Beat] = []

    def start() -> Beat:
        running.append(Beat(app=app))
        running[0].tick()
        return running[0]

    yield start
    for each in running:
        each._finalize.cancel()


def overdue(made: PgPeriodicSchedule) -> None:
    """Make Beat's row due: its last run was an hour ago."""
    task = beats(made)
    PeriodicTask.objects.filter(pk=task.pk).update(last_run_at=task.last_run_at - timedelta(hours=1))


def test_a_real_beat_sends_what_it_fires_and_nothing_of_pg(start_beat: Callable[[], Beat]) -> None:
    theirs, ours = make(firer="beat", kind="interval", expression="PT1M"), make(kind="interval", expression="PT1M")
    overdue(theirs)
    _execute("UPDATE django_celery_beat_periodictask SET enabled = true WHERE name = %s", str(ours.pk))
    beat = start_beat()
    beat.tick()
    beat.sync()
    assert beat.sends == [str(theirs.pk)]
    assert beats(theirs).total_run_count == 1


def test_a_real_beat_stops_after_a_pause_and_its_sync_undoes_nothing(start_beat: Callable[[], Beat]) -> None:
    made = make(firer="beat", kind="interval", expression="PT1M")
    overdue(made)
    beat = start_beat()
    beat.tick()
    api.pause_schedule(made.pk)
    for _ in range(3):
        beat.tick()
    beat.sync()
    assert beat.sends == [str(made.pk)]
    assert (beats(made).enabled, beats(made).total_run_count) == (False, 1)
    assert beats(made).last_run_at is not None


def test_a_real_beat_sends_nothing_at_once_after_a_resume(start_beat: Callable[[], Beat]) -> None:
    made = make(firer="beat", kind="interval", expression="PT1M")
    api.pause_schedule(made.pk)
    beat = start_beat()
    overdue(made)  # paused for an hour
    api.resume_schedule(made.pk)
    for _ in range(3):
        beat.tick()
    assert beat.sends == []
    overdue(made)  # it does send what is due
    api.update_schedule(made.pk, args=[1])
    for _ in range(3):
        beat.tick()
    assert beat.sends == [str(made.pk)]


def test_a_beat_that_may_not_read_the_schedules_can_still_write_its_rows() -> None:
    made = make(firer="beat")
    _execute("DROP ROLE IF EXISTS downbeat_beat_only")
    _execute("CREATE ROLE downbeat_beat_only")
    _execute("GRANT downbeat_beat_only TO CURRENT_USER")
    try:
        _execute("GRANT SELECT, UPDATE ON django_celery_beat_periodictask TO downbeat_beat_only")
        with transaction.atomic():
            _execute("SET LOCAL ROLE downbeat_beat_only")
            _execute("UPDATE django_celery_beat_periodictask SET total_run_count = 3")
    finally:
        _execute("DROP OWNED BY downbeat_beat_only")
        _execute("DROP ROLE downbeat_beat_only")
    assert beats(made).total_run_count == 3


def is_guarded() -> bool:
    return trigger.find_tables("default").is_guarded


def test_migrating_installs_the_guard_again_and_twice_does_no_harm() -> None:
    _execute("DROP FUNCTION scheduler_guard_beat() CASCADE")
    assert not is_guarded()
    for _ in range(2):
        call_command("migrate", "scheduler", verbosity=0)
        assert is_guarded()


def test_an_outdated_guard_is_brought_up_to_date() -> None:
    body = "LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"
    _execute(f"CREATE OR REPLACE FUNCTION scheduler_guard_beat() RETURNS trigger {body}")
    trigger.install("default")
    made = make()
    PeriodicTask.objects.update(enabled=True)
    assert beats(made).enabled is False


def test_the_guard_goes_with_the_schedules_table() -> None:
    """As after `migrate scheduler zero`: Beat must go on writing."""
    with transaction.atomic():
        _execute("DROP TABLE scheduler_pgperiodicschedule CASCADE")
        assert trigger.install("default") is False
        assert not is_guarded()
        transaction.set_rollback(True)
    assert is_guarded()


def test_without_beats_table_there_is_nothing_to_guard() -> None:
    with transaction.atomic():
        _execute("DROP TABLE django_celery_beat_periodictask CASCADE")
        assert trigger.install("default") is False
        transaction.set_rollback(True)
    assert is_guarded()


def test_many_migrations_at_once_do_not_collide() -> None:
    errors: list[Exception] = []

    def install() -> None:
        try:
            for _ in range(5):
                trigger.install("default")
        except Exception as error:  # noqa: BLE001  handed to the test
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=install) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def test_a_row_that_pg_owns_keeps_its_name_or_it_could_be_enabled_under_another() -> None:
    made, beats_own = make(firer="pg"), make(firer="beat")
    PeriodicTask.objects.filter(name=made.beat_name).update(name="renamed", enabled=True)
    assert beats(made).enabled is False
    PeriodicTask.objects.filter(name=made.beat_name).update(name="renamed")
    PeriodicTask.objects.filter(name="renamed").update(enabled=True)
    assert beats(made).enabled is False
    PeriodicTask.objects.filter(name=beats_own.beat_name).update(name="renamed")
    assert PeriodicTask.objects.get(name="renamed").enabled is True


def roll_back(made: PgPeriodicSchedule, until: datetime) -> None:
    """As a roll-back does: Beat's row is enabled for what occurs after `until`, while PG fires what comes before."""
    with transaction.atomic():
        PgPeriodicSchedule.objects.filter(pk=made.pk).update(beat_from=until)
        PeriodicTask.objects.filter(name=made.beat_name).update(enabled=True, last_run_at=until)


def test_a_row_on_its_way_back_to_beat_is_enabled_and_keeps_its_name() -> None:
    made = make(kind="interval", expression="PT1M")
    until = now() + timedelta(seconds=10)
    roll_back(made, until)
    PeriodicTask.objects.filter(name=made.beat_name).update(name="renamed")
    assert (beats(made).enabled, beats(made).last_run_at) == (True, until)


def test_a_write_back_of_a_beat_that_has_not_seen_the_hand_over_moves_no_roll_back(app: Celery) -> None:
    made = make(firer="beat", kind="interval", expression="PT1M")
    entry = sent(made, app)
    hand_over(made)
    until = now() + timedelta(seconds=10)
    roll_back(made, until)
    entry.save()
    assert (beats(made).enabled, beats(made).last_run_at, beats(made).total_run_count) == (True, until, 1)


def test_a_real_beat_sends_nothing_before_the_instant_of_the_roll_back(start_beat: Callable[[], Beat]) -> None:
    made = make(firer="beat", kind="interval", expression="PT1S")
    overdue(made)
    beat = start_beat()
    beat.tick()
    hand_over(made)
    until = now() + timedelta(seconds=2)
    roll_back(made, until)
    PeriodicTasks.update_changed()
    while not beat.sends[1:] and now() < until + timedelta(minutes=1):
        beat.tick()
    assert beat.sends == [str(made.pk)] * 2
    assert now() >= until + timedelta(seconds=1)
