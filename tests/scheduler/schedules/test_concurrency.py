"""Choke points, the tick and each other on one schedule, on real sessions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django_celery_beat.models import PeriodicTask

from scheduler import api
from scheduler.api import PgPeriodicSchedule, ScheduleRun
from tests.scheduler.schedules.making import make

pytestmark = pytest.mark.django_db(transaction=True)

HOLD = "SELECT next_run_at FROM scheduler_pgperiodicschedule WHERE pipeline_id = %s FOR UPDATE"
ADVANCE = "UPDATE scheduler_pgperiodicschedule SET last_run_at = next_run_at, next_run_at = %s WHERE pipeline_id = %s"


@pytest.fixture
def session() -> Iterator[psycopg.Connection[Any]]:
    """Another session on the same database, in a transaction."""
    parameters = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**parameters) as other:
        yield other


@contextmanager
def beside(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Runs `work` in a thread of its own; its answer or its error is in the list when the block is left."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(work())
        except Exception as error:  # noqa: BLE001  handed to the test
            answers.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield answers
    thread.join(60)
    assert not thread.is_alive()


def await_a_waiting_session(session: psycopg.Connection[Any]) -> None:
    """Return when some other session waits for this one's lock; fail after 60 s."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    pause = threading.Event()
    for _ in range(6000):
        if session.execute(waiting).fetchone()[0]:  # type: ignore[index]
            return
        pause.wait(0.01)
    pytest.fail("nobody waits")


@pytest.mark.postgresql("SQLite locks no rows: whoever writes has the file")
@pytest.mark.parametrize(
    "act",
    [
        lambda pk: api.update_schedule(pk, name="Renamed"),
        lambda pk: api.pause_schedule(pk, reason="now"),
        lambda pk: api.resume_schedule(pk),
    ],
)
def test_a_change_waits_for_the_tick_and_keeps_what_it_wrote(act: Any, session: psycopg.Connection[Any]) -> None:
    made = make()
    assert made.next_run_at is not None
    advanced = made.next_run_at + timedelta(minutes=5)
    session.execute(HOLD, [made.pk])
    with beside(lambda: act(made.pk)) as answers:
        await_a_waiting_session(session)
        session.execute(ADVANCE, [advanced, made.pk])
        session.commit()
    assert isinstance(answers[0], PgPeriodicSchedule)
    stored = PgPeriodicSchedule.objects.get(pk=made.pk)
    assert (stored.next_run_at, stored.last_run_at) == (advanced, made.next_run_at)


@pytest.mark.postgresql("SQLite locks no rows: whoever writes has the file")
def test_the_tick_skips_a_schedule_that_is_being_changed(session: psycopg.Connection[Any]) -> None:
    made = make()
    with transaction.atomic():
        api.pause_schedule(made.pk)
        assert session.execute(f"{HOLD} SKIP LOCKED", [made.pk]).fetchone() is None
    session.rollback()
    assert session.execute(f"{HOLD} SKIP LOCKED", [made.pk]).fetchone() is not None


@pytest.mark.postgresql("SQLite locks no rows: whoever writes has the file")
def test_a_schedule_deleted_while_a_change_waited_is_not_found(session: psycopg.Connection[Any]) -> None:
    made = make()
    session.execute(HOLD, [made.pk])
    with beside(lambda: api.update_schedule(made.pk, name="Late")) as answers:
        await_a_waiting_session(session)
        session.execute("DELETE FROM scheduler_pgperiodicschedule WHERE pipeline_id = %s", [made.pk])
        session.execute("DELETE FROM django_celery_beat_periodictask WHERE name = %s", [str(made.pk)])
        session.commit()
    assert isinstance(answers[0], api.ScheduleNotFound)


@pytest.mark.postgresql("it looks at Beat's rows, too")
@pytest.mark.parametrize("firer", ["pg", "beat"])
def test_changes_of_different_fields_at_once_are_all_kept(firer: str) -> None:
    made, barrier = make(firer=firer), threading.Barrier(3)

    def change(**fields: Any) -> None:
        barrier.wait(60)
        for _ in range(5):
            api.update_schedule(made.pk, **fields)

    changes = [{"args": [7]}, {"queue": "slow"}, {"name": "Third"}]
    with (
        beside(lambda: change(**changes[0])),
        beside(lambda: change(**changes[1])),
        beside(lambda: change(**changes[2])),
    ):
        pass
    stored, task = PgPeriodicSchedule.objects.get(pk=made.pk), PeriodicTask.objects.get(name=str(made.pk))
    assert (stored.args, stored.queue, stored.pipeline_name) == ([7], "slow", "Third")
    assert (task.args, task.queue, task.description) == ("[7]", "slow", "Third")


def test_resumed_by_two_at_once_the_pause_is_accounted_for_once() -> None:
    made = make(kind="interval", expression="PT1S")
    api.pause_schedule(made.pk)
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(next_run_at=made.created_at - timedelta(minutes=1))
    with beside(lambda: api.resume_schedule(made.pk)), beside(lambda: api.resume_schedule(made.pk)):
        pass
    assert ScheduleRun.objects.of_schedule(made.pk).count() == 1


@pytest.mark.postgresql("it looks at Beat's rows, too")
def test_one_id_is_created_once() -> None:
    identity, barrier = make().pk, threading.Barrier(2)
    api.delete_schedule(identity)

    def create() -> PgPeriodicSchedule:
        barrier.wait(60)
        return make(schedule_id=identity)

    with beside(create) as one, beside(create) as other:
        pass
    outcomes = sorted(type(answer).__name__ for answer in (*one, *other))
    assert outcomes == ["InvalidInput", "PgPeriodicSchedule"]
    assert PgPeriodicSchedule.objects.count() == PeriodicTask.objects.count() == 1


@pytest.mark.postgresql("SQLite notifies nobody; its leader looks (test_sqlite_processes.py)")
def test_the_leader_hears_of_a_change_when_it_commits(session: psycopg.Connection[Any]) -> None:
    session.autocommit = True
    session.execute("LISTEN downbeat_schedules")
    with transaction.atomic():
        made = make()
        assert list(session.notifies(timeout=0.1)) == []
    heard = [next(session.notifies(timeout=60, stop_after=1)).payload]
    for act in (api.pause_schedule, api.resume_schedule, api.delete_schedule):
        act(made.pk)
        heard.append(next(session.notifies(timeout=60, stop_after=1)).payload)
    assert heard == [str(made.pk)] * 4


@pytest.mark.postgresql("SQLite notifies nobody; its leader looks (test_sqlite_processes.py)")
def test_nobody_hears_of_a_change_that_was_rolled_back(session: psycopg.Connection[Any]) -> None:
    session.autocommit = True
    session.execute("LISTEN downbeat_schedules")
    with transaction.atomic():
        make()
        transaction.set_rollback(True)
    later = make()
    assert next(session.notifies(timeout=60, stop_after=1)).payload == str(later.pk)
