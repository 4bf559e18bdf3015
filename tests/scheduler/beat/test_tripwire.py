"""What the guard of Beat's rows undoes is noted, with who did it; the guard can be removed and put back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import Any

import psycopg
import pytest
from celery import Celery
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from scheduler.api import BeatCatch, PgPeriodicSchedule
from scheduler.beat import trigger
from scheduler.ledger import forget_catches
from scheduler.metrics import ScheduleCollector
from tests.scheduler.schedules.making import make

pytestmark = pytest.mark.django_db(transaction=True)

ENABLE = "UPDATE django_celery_beat_periodictask SET enabled = true WHERE name = %s"


@pytest.fixture(autouse=True)
def _armed() -> Iterator[None]:
    yield
    trigger.restore("default")


def beats(made: PgPeriodicSchedule) -> PeriodicTask:
    return PeriodicTask.objects.get(name=made.beat_name)


def execute(statement: str, *parameters: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def caught() -> list[tuple[str, str]]:
    return list(BeatCatch.objects.order_by("id").values_list("beat_name", "what"))


@contextmanager
def session(**options: Any) -> Iterator[psycopg.Connection[Any]]:
    """A session of its own, committing each statement."""
    parts = connection.get_connection_params()
    known = {name: parts[name] for name in ("host", "port", "dbname", "user", "password") if parts.get(name)}
    with psycopg.connect(**{**known, **options}, autocommit=True) as opened:
        yield opened


def test_who_enabled_what_and_when_is_noted() -> None:
    made = make()
    with session(application_name="a colleague's psql") as other:
        other.execute(ENABLE, [made.beat_name])
        process = other.info.backend_pid
    assert not beats(made).enabled
    catch = BeatCatch.objects.get()
    assert (catch.schedule_id, catch.beat_name, catch.what) == (made.pk, made.beat_name, "enabled")
    assert (catch.application_name, catch.process_id) == ("a colleague's psql", process)
    assert catch.role == connection.settings_dict["USER"]
    assert catch.query == ENABLE.replace("%s", "$1")
    assert catch.attempted == {"enabled": [False, True]}
    assert catch.caught_at - made.created_at < timedelta(minutes=10)


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (lambda task: PeriodicTask.objects.filter(pk=task.pk).update(enabled=True), "enabled"),
        (lambda task: setattr(task, "enabled", True) or task.save(), "enabled"),
        (lambda task: PeriodicTask.objects.filter(pk=task.pk).update(name="other"), "renamed"),
        (lambda task: PeriodicTask.objects.filter(pk=task.pk).update(name="other", enabled=True), "renamed"),
        (lambda task: PeriodicTask.objects.filter(pk=task.pk).update(total_run_count=9, enabled=True), "write_back"),
    ],
    ids=["queryset", "model", "name", "name and enabled", "sql that looks like a write-back"],
)
def test_each_write_that_would_have_given_the_row_to_beat_is_caught_once(write: Any, what: str) -> None:
    made = make()
    write(beats(made))
    assert caught() == [(made.beat_name, what)]
    assert (beats(made).enabled, beats(made).name) == (False, made.beat_name)


def test_a_row_inserted_enabled_is_caught() -> None:
    made = make(expression="0 0 1 * 1")  # has no Beat row
    every_day = IntervalSchedule.objects.create(every=1, period="days")
    PeriodicTask.objects.create(name=made.beat_name, task="x", interval=every_day, enabled=True)
    assert caught() == [(made.beat_name, "enabled")]


def test_a_real_beats_stale_copy_is_caught_when_it_is_written_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made, app = make(firer="beat"), Celery("tests", broker="memory://")
    entry = next(ModelEntry(beats(made), app=app))
    save = PeriodicTask.save

    def late_save(self: PeriodicTask, *args: object, **kwargs: object) -> None:
        with session() as other, other.transaction():
            other.execute("UPDATE scheduler_pgperiodicschedule SET firer = 'pg'")
            other.execute("UPDATE django_celery_beat_periodictask SET enabled = false, args = '[1]'")
        save(self, *args, **kwargs)

    monkeypatch.setattr(PeriodicTask, "save", late_save)
    entry.save()
    assert caught() == [(made.beat_name, "write_back")]
    assert BeatCatch.objects.get().attempted == {"enabled": [False, True], "args": ["[1]", "[]"]}
    assert (beats(made).enabled, beats(made).total_run_count) == (False, 1)


def test_what_a_running_beat_writes_back_again_and_again_is_no_catch() -> None:
    made, theirs = make(firer="beat"), make(firer="beat")
    entry = next(ModelEntry(beats(made), app=Celery("tests", broker="memory://")))
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(firer="pg")
    PeriodicTask.objects.filter(name=made.beat_name).update(enabled=False)
    for _ in range(3):
        entry = next(entry)
        entry.save()  # it reads the row, which is disabled
    PeriodicTask.objects.filter(name=theirs.beat_name).update(enabled=False)
    PeriodicTask.objects.filter(name=theirs.beat_name).update(total_run_count=5, enabled=True)
    assert beats(made).total_run_count == 4
    assert caught() == []


def test_what_is_repeated_is_noted_once_a_minute_for_each_writer_and_matter() -> None:
    made, other = make(), make(name="Another")
    for _ in range(3):
        PeriodicTask.objects.update(enabled=True)
    assert sorted(caught()) == sorted([(made.beat_name, "enabled"), (other.beat_name, "enabled")])
    PeriodicTask.objects.filter(name=made.beat_name).update(name="other")
    with session(application_name="somebody else") as else_:
        else_.execute(ENABLE, [made.beat_name])
    assert len(caught()) == 4
    BeatCatch.objects.update(caught_at=BeatCatch.objects.latest("caught_at").caught_at - timedelta(seconds=61))
    PeriodicTask.objects.update(enabled=True)
    assert len(caught()) == 6


def test_a_write_that_was_rolled_back_leaves_no_note() -> None:
    made = make()
    with transaction.atomic():
        execute(ENABLE, made.beat_name)
        transaction.set_rollback(True)
    assert caught() == []


@contextmanager
def beat_only() -> Iterator[psycopg.Connection[Any]]:
    """The session of a role that may do nothing but write Beat's rows."""
    execute("DROP ROLE IF EXISTS downbeat_only_beat")
    execute("CREATE ROLE downbeat_only_beat LOGIN PASSWORD 'x'")
    execute("GRANT downbeat_only_beat TO CURRENT_USER")
    try:
        execute("GRANT SELECT, UPDATE ON django_celery_beat_periodictask TO downbeat_only_beat")
        with session(user="downbeat_only_beat", password="x") as opened:
            yield opened
    finally:
        execute("DROP OWNED BY downbeat_only_beat")
        execute("DROP ROLE downbeat_only_beat")


def test_a_beat_without_rights_on_our_tables_is_caught_by_the_name_of_its_role() -> None:
    made = make()
    with beat_only() as beat:
        assert beat.execute(ENABLE, [made.beat_name]).rowcount == 1
    assert not beats(made).enabled
    assert BeatCatch.objects.get().role == "downbeat_only_beat"


@pytest.mark.parametrize("spoil", ["lock", "drop", "function"])
def test_beats_write_stands_at_once_where_it_cannot_be_noted(spoil: str) -> None:
    made = make()
    spoilt = {
        "lock": "LOCK TABLE scheduler_beatcatch IN ACCESS EXCLUSIVE MODE",
        "drop": "DROP TABLE scheduler_beatcatch CASCADE",
        "function": "DROP FUNCTION scheduler_note_catch(text, jsonb, jsonb)",
    }[spoil]
    with session() as breaker, session() as beat:
        beat.execute("SET statement_timeout = '60s'")
        with breaker.transaction(force_rollback=True):
            breaker.execute(spoilt)
            if spoil != "lock":  # seen by the one that broke it
                with breaker.transaction():
                    breaker.execute("UPDATE django_celery_beat_periodictask SET enabled = true, args = '[5]'")
                row = breaker.execute("SELECT enabled, args FROM django_celery_beat_periodictask").fetchone()
            else:
                beat.execute("UPDATE django_celery_beat_periodictask SET enabled = true, args = '[5]'")
                row = beat.execute("SELECT enabled, args FROM django_celery_beat_periodictask").fetchone()
            assert row == (False, "[5]")
    assert caught() == []
    assert not beats(made).enabled


def test_long_values_and_statements_are_cut_off() -> None:
    made = make(firer="beat", args=["x" * 4000])
    stale = beats(made)
    execute("UPDATE scheduler_pgperiodicschedule SET firer = 'pg'")
    PeriodicTask.objects.filter(pk=stale.pk).update(enabled=False, args="[]")
    stale.total_run_count += 1
    stale.save()
    catch = BeatCatch.objects.get()
    assert catch.attempted == {"enabled": [False, True], "args": ["…", "…"]}
    assert len(catch.query) == 500


def test_old_notes_are_forgotten() -> None:
    old, recent = make(), make(name="Another")
    PeriodicTask.objects.update(enabled=True)
    BeatCatch.objects.filter(schedule_id=old.pk).update(caught_at=old.created_at - timedelta(days=91))
    assert forget_catches() == 1
    assert caught() == [(recent.beat_name, "enabled")]


def catches_total() -> float:
    [family] = [one for one in ScheduleCollector().collect() if one.name == "downbeat_tripwire_catches"]
    return float(family.samples[0].value)


def test_the_metric_counts_what_was_caught_and_never_falls() -> None:
    before = catches_total()
    make(), make(name="Another")
    PeriodicTask.objects.update(enabled=True)
    assert catches_total() == before + 2
    BeatCatch.objects.all().delete()
    assert catches_total() == before + 2


def tripwire(*args: str) -> str:
    out = StringIO()
    call_command("tripwire", *args, stdout=out)
    return out.getvalue()


def warnings() -> list[str]:
    return [one.msg + str(one.hint) for one in run_checks(databases=["default"]) if one.id == "scheduler.W004"]


def test_a_removal_outlives_a_migration_and_a_restore_ends_it() -> None:
    made, other = make(), make(name="Another")
    assert "restore" in tripwire("remove", "--yes")
    call_command("migrate", "scheduler", verbosity=0)
    told = json.loads(tripwire("status", "--json"))
    assert (told["state"], told["schedules_of_pg"]) == ("removed", 2)
    assert told["removed"].startswith("removed by ")
    [warning] = warnings()
    assert f"was removed ({told['removed']})" in warning
    assert "manage.py tripwire restore" in warning
    execute(ENABLE, made.beat_name)
    assert beats(made).enabled

    assert json.loads(tripwire("restore", "--json")) == {"state": "armed", "disabled": 1}
    assert (beats(made).enabled, beats(other).enabled) == (False, False)
    assert json.loads(tripwire("status", "--json"))["removed"] is None
    assert warnings() == []
    execute(ENABLE, made.beat_name)
    assert not beats(made).enabled


def test_a_guard_that_is_gone_without_a_word_is_missing_and_a_migration_puts_it_back() -> None:
    for broken in (
        "DROP TRIGGER scheduler_guard_beat ON django_celery_beat_periodictask",
        "ALTER TABLE django_celery_beat_periodictask DISABLE TRIGGER scheduler_guard_beat",
    ):
        execute(broken)
        assert json.loads(tripwire("status", "--json"))["state"] == "missing"
        [warning] = warnings()
        assert "manage.py migrate" in warning
        call_command("migrate", "scheduler", verbosity=0)
        assert json.loads(tripwire("status", "--json"))["state"] == "armed"


def test_a_removal_says_what_it_means_before_it_is_done() -> None:
    make()
    with pytest.raises(
        CommandError, match="--yes: expected to be given, because without the tripwire Celery Beat fires"
    ) as e:
        tripwire("remove")
    assert e.value.returncode == 2
    assert trigger.find_tables("default").is_guarded


def test_the_status_tells_what_was_caught_last() -> None:
    made = make()
    execute(ENABLE, made.beat_name)
    told = json.loads(tripwire("status", "--json"))
    assert (told["state"], told["catches"]) == ("armed", 1)
    assert (told["last"][0]["schedule"], told["last"][0]["what"]) == (str(made.pk), "enabled")
    text = tripwire("status")
    assert "armed" in text
    assert made.beat_name in text


def test_without_beats_table_there_is_nothing_to_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = trigger.Tables(beat=None, schema="public", is_guarded=False, removal=None)
    monkeypatch.setattr(trigger, "find_tables", lambda using: nothing)
    for action in (["remove", "--yes"], ["restore"]):
        with pytest.raises(CommandError, match="Nothing is guarded here"):
            tripwire(*action)
    assert json.loads(tripwire("status", "--json"))["state"] == "idle"
