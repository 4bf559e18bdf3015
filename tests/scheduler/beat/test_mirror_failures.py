"""A mirror that cannot be written: Beat's row stands, the failure is logged, counted and kept, and nothing waits long.

Every failure is injected into the database itself, on all five paths, inside a transaction of the caller's and without.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django_celery_beat.models import PeriodicTask

from scheduler import api
from scheduler.api import MirrorFailure, PgPeriodicSchedule
from scheduler.beat import mirror
from tests.scheduler.schedules.making import make

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = "scheduler_pgperiodicschedule"
PATHS = ("create", "update", "pause", "resume", "delete")


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@contextmanager
def broken_by_a_trigger(kind: str, body: str) -> Iterator[None]:
    execute(f"CREATE FUNCTION break_mirror() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    execute(f"CREATE {kind} ON {TABLE} {_DEFERRED if 'CONSTRAINT' in kind else ''} FOR EACH ROW {_CALL}")
    try:
        yield
    finally:
        execute(f"DROP TRIGGER break_mirror ON {TABLE}")
        execute("DROP FUNCTION break_mirror")


_DEFERRED = "DEFERRABLE INITIALLY DEFERRED"
_CALL = "EXECUTE FUNCTION break_mirror()"
_EVENTS = "INSERT OR UPDATE OR DELETE"


def raising() -> AbstractContextManager[None]:
    """Every write of the table raises."""
    return broken_by_a_trigger(f"TRIGGER break_mirror BEFORE {_EVENTS}", "RAISE 'mirror is broken';")


def raising_at_commit() -> AbstractContextManager[None]:
    """Every write of the table raises, but only when its transaction commits."""
    body = "RAISE 'mirror is broken at commit';"
    return broken_by_a_trigger(f"CONSTRAINT TRIGGER break_mirror AFTER {_EVENTS}", body)


@contextmanager
def impatient() -> Iterator[None]:
    """The mirror waits a moment only, but keeps its failures with patience, as they meet nothing that hangs."""
    record, patient_seconds = mirror.record, mirror.WAIT_SECONDS

    def record_patiently(*failure: Any) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(mirror, "WAIT_SECONDS", patient_seconds)
            record(*failure)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mirror, "WAIT_SECONDS", 0.2)
        patched.setattr(mirror, "record", record_patiently)
        yield


@contextmanager
def hanging() -> Iterator[None]:
    """Every write of the table takes an hour."""
    body = "PERFORM pg_sleep(3600); RETURN coalesce(NEW, OLD);"
    with broken_by_a_trigger(f"TRIGGER break_mirror BEFORE {_EVENTS}", body), impatient():
        yield


@contextmanager
def renamed() -> Iterator[None]:
    """The table is not there."""
    execute(f"ALTER TABLE {TABLE} RENAME TO hidden")
    try:
        yield
    finally:
        execute(f"ALTER TABLE hidden RENAME TO {TABLE}")


@contextmanager
def locked(mode: str) -> Iterator[None]:
    """Another session holds the table."""
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as other:
        other.execute(f"LOCK TABLE {TABLE} IN {mode} MODE")
        with impatient():
            yield
        other.rollback()


BREAKAGES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "raises": raising,
    "raises at commit": raising_at_commit,
    "hangs": hanging,
    "renamed": renamed,
    "locked against writing": lambda: locked("SHARE"),
    "locked against everything": lambda: locked("ACCESS EXCLUSIVE"),
}


def prepare(path: str) -> uuid.UUID:
    """A schedule that `path` can be tried on; for a creation, the id it is to have."""
    identity = uuid.uuid4()
    if path != "create":
        make(firer="beat", schedule_id=identity, organization_id="acme", enabled=path != "resume")
    return identity


def act(path: str, identity: uuid.UUID) -> Any:
    """Take one of the five paths."""
    return {
        "create": lambda: make(firer="beat", schedule_id=identity, organization_id="acme"),
        "update": lambda: api.update_schedule(identity, args=["changed"]),
        "pause": lambda: api.pause_schedule(identity, reason="why"),
        "resume": lambda: api.resume_schedule(identity),
        "delete": lambda: api.delete_schedule(identity),
    }[path]()


def stands(path: str, identity: uuid.UUID) -> bool:
    """Whether Beat's row shows what `path` did."""
    task = PeriodicTask.objects.filter(name=str(identity)).first()
    if task is None:
        return path == "delete"
    shown = {
        "create": task.enabled,
        "update": task.args == '["changed"]' and task.enabled,
        "pause": not task.enabled,
        "resume": task.enabled,
    }
    return shown.get(path, False)


def failures_counted(path: str) -> float:
    return mirror.FAILURES.labels(path=path)._value.get()


@pytest.mark.parametrize("is_nested", [False, True], ids=["alone", "in the caller's transaction"])
@pytest.mark.parametrize("breakage", BREAKAGES)
@pytest.mark.parametrize("path", PATHS)
def test_beats_row_stands_and_the_failure_is_seen(
    path: str, breakage: str, is_nested: bool, caplog: pytest.LogCaptureFixture
) -> None:
    identity, counted = prepare(path), failures_counted(path)
    caplog.set_level(logging.ERROR, "scheduler.beat.mirror")
    with BREAKAGES[breakage](), transaction.atomic() if is_nested else nullcontext():
        act(path, identity)
    assert stands(path, identity)
    failure = MirrorFailure.objects.get(schedule_id=identity)
    assert (failure.path, failure.beat_name, failure.repaired_at) == (path, str(identity), None)
    assert failure.error
    assert failures_counted(path) == counted + 1
    assert f"mirror.failed schedule_id={identity} path={path}" in caplog.text
    assert [known.pk for known in api.mirror_failures()] == [failure.pk]


@pytest.mark.parametrize("path", PATHS)
def test_an_error_of_our_own_is_no_different(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = prepare(path)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(mirror, "_write", fail)
    monkeypatch.setattr(mirror, "_erase", fail)
    act(path, identity)
    assert stands(path, identity)
    assert MirrorFailure.objects.get(schedule_id=identity).error.startswith("ZeroDivisionError")


def test_the_failure_of_recording_a_failure_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    identity = prepare("update")
    execute("ALTER TABLE scheduler_mirrorfailure RENAME TO hidden_failures")
    try:
        with raising():
            api.update_schedule(identity, args=["changed"])
    finally:
        execute("ALTER TABLE hidden_failures RENAME TO scheduler_mirrorfailure")
    assert stands("update", identity)
    assert f"mirror.failure_not_recorded schedule_id={identity} path=update" in caplog.text


def test_the_next_change_repairs_a_mirror_that_was_never_written() -> None:
    identity = prepare("create")
    with raising():
        act("create", identity)
    assert not PgPeriodicSchedule.objects.filter(pk=identity).exists()
    api.pause_schedule(identity, reason="later")
    repaired = PgPeriodicSchedule.objects.get(pk=identity)
    assert (repaired.organization_id, repaired.pipeline_name, repaired.cron_string) == (
        "acme",
        "Nightly",
        "*/5 * * * *",
    )
    assert (repaired.enabled, repaired.pause_note) == (False, "later")
    assert not api.mirror_failures().exists()
    assert MirrorFailure.objects.get(schedule_id=identity).repaired_at is not None


def test_a_mirror_that_vanished_without_a_trace_is_reported_and_not_guessed() -> None:
    identity = prepare("update")
    PgPeriodicSchedule.objects.all().delete()
    changed = api.update_schedule(identity, expression="7 * * * *")
    assert (changed.cron_string, changed.organization_id) == ("7 * * * *", "")
    assert PeriodicTask.objects.get(name=str(identity)).crontab.minute == "7"
    assert not PgPeriodicSchedule.objects.exists()
    assert "organization is not known" in MirrorFailure.objects.get(schedule_id=identity).error


def test_a_failure_that_is_rolled_back_with_beats_row_leaves_nothing_to_repair() -> None:
    identity = prepare("create")
    with raising(), transaction.atomic():
        act("create", identity)
        transaction.set_rollback(True)
    assert not stands("create", identity)
    assert not MirrorFailure.objects.exists()


def test_the_callers_own_bounds_hold_again_after_a_mirror_write() -> None:
    with transaction.atomic():
        execute("SET LOCAL lock_timeout = '7s'")
        execute("SET LOCAL statement_timeout = '11s'")
        make(firer="beat")
        with raising():
            make(firer="beat")
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
            assert cursor.fetchone() == ("7s", "11s")


def test_under_serializable_the_mirror_cannot_doom_the_callers_commit() -> None:
    with transaction.atomic():
        execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        made = make(firer="beat")
        assert not PgPeriodicSchedule.objects.filter(pk=made.pk).exists()
    assert PgPeriodicSchedule.objects.filter(pk=made.pk).exists()


@pytest.mark.parametrize("path", ["update", "pause", "resume", "delete"])
@pytest.mark.parametrize("breakage", ["renamed", "locked against everything"])
def test_what_pg_may_own_is_not_changed_on_beats_side_alone(path: str, breakage: str) -> None:
    """PG's row is the primary one: a pause that reached Beat's disabled row only would go on firing."""
    made = make(enabled=path != "resume")
    with BREAKAGES[breakage](), pytest.raises(Exception, match=f"{TABLE}|lock timeout"):
        act(path, made.pk)
    assert PgPeriodicSchedule.objects.get(pk=made.pk).updated_at == made.updated_at
    assert PeriodicTask.objects.filter(name=str(made.pk), enabled=False, args="[]").exists()
    assert not MirrorFailure.objects.exists()
