"""Every change leaves a note of who made it, in the transaction of the change."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from scheduler import api, ledger
from scheduler.api import PgPeriodicSchedule, ScheduleChange
from tests.scheduler.schedules.making import make

pytestmark = pytest.mark.django_db


def notes(made: PgPeriodicSchedule) -> list[tuple[str, str, dict[str, Any]]]:
    """Action, actor and fields, oldest first."""
    return [(note.action, note.actor, note.fields) for note in reversed(api.last_changes(made.pk, 100))]


@pytest.mark.parametrize(
    "firer", ["pg", pytest.param("beat", marks=pytest.mark.postgresql("beside SQLite Celery Beat fires nothing"))]
)
def test_each_path_leaves_a_note_with_who_acted_and_what_was_changed(firer: str) -> None:
    with api.acting_as("ada"):
        made = make(firer=firer)
        api.update_schedule(made.pk, priority=7, name="Other")
    api.pause_schedule(made.pk, reason="x")
    with api.acting_as(lambda: "bob"):
        api.resume_schedule(made.pk)
        api.delete_schedule(made.pk)
    assert notes(made) == [
        ("create", "ada", {}),
        ("update", "ada", {"name": ["Nightly", "Other"], "priority": [5, 7]}),
        ("pause", "", {"enabled": [True, False], "pause_note": ["", "x"]}),
        ("resume", "bob", {"enabled": [False, True], "pause_note": ["x", ""]}),
        ("delete", "bob", {}),
    ]


def test_a_call_that_changes_nothing_leaves_none() -> None:
    made = make()
    api.update_schedule(made.pk, priority=5)
    api.resume_schedule(made.pk)
    assert [action for action, _, _ in notes(made)] == ["create"]


def test_a_change_that_is_refused_leaves_none() -> None:
    made = make()
    with pytest.raises(api.InvalidInput):
        api.update_schedule(made.pk, expression="61 * * * *")
    assert len(notes(made)) == 1


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_a_note_that_cannot_be_written_stops_no_change_of_beats_row() -> None:
    made = make(firer="beat")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE scheduler_schedulechange RENAME TO elsewhere")
    assert api.update_schedule(made.pk, priority=7).priority == 7
    assert api.mirror_failures().of_schedule(made.pk).count() == 1


def test_an_actors_name_is_kept_within_the_column() -> None:
    with api.acting_as("x" * 300 + "\x00"):
        made = make()
    assert notes(made) == [("create", "x" * 255, {})]


def test_notes_are_forgotten_with_the_ledger() -> None:
    made = make()
    ScheduleChange.objects.update(changed_at=timezone.now() - timedelta(days=89))
    assert ledger.forget_changes() == 0
    ScheduleChange.objects.update(changed_at=timezone.now() - timedelta(days=91))
    assert (ledger.forget_changes(), notes(made)) == (1, [])
