"""The next occurrence as people see it: what PG has stored, and what Beat will do."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.utils import timezone

from scheduler import api
from scheduler.api import PgPeriodicSchedule
from scheduler.representation import schedule_fields
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
@pytest.mark.parametrize(
    ("cadence", "expected"),
    [
        ({"expression": "*/5 * * * *"}, "2026-03-04 10:10:00"),
        ({"kind": "interval", "expression": "PT7H"}, "2026-03-04 11:07:30"),
        ({"expression": "0 0 * * *", "ends_at": at("2026-03-05 00:00:01")}, "2026-03-05 00:00:00"),
        ({"expression": "0 0 * * *", "ends_at": at("2026-03-05 00:00:00")}, None),
        ({"starts_at": at("2026-04-01 00:00:00")}, "2026-04-01 00:00:00"),
    ],
)
def test_what_beat_fires_shows_its_first_occurrence_after_now(
    cadence: dict[str, Any], expected: str | None, hands: Hands
) -> None:
    made = make(firer="beat", **cadence)
    stored = made.next_run_at
    assert api.next_run_at(made, now=at("2026-03-04 10:07:30")) == (None if expected is None else at(expected))
    assert made.next_run_at == stored, "nothing is written"


def test_what_pg_fires_shows_what_is_due(hands: Hands) -> None:
    made = make()
    assert api.next_run_at(made, now=at("2026-03-04 10:07:30")) == at("2026-03-02 10:10:00")


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_a_paused_schedule_shows_what_is_stored(hands: Hands) -> None:
    made = api.pause_schedule(make(firer="beat").pk)
    assert api.next_run_at(made, now=at("2026-03-04 10:07:30")) == at("2026-03-02 10:10:00")


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_a_mirror_that_means_nothing_can_still_be_shown(hands: Hands) -> None:
    made = make(firer="beat")
    PgPeriodicSchedule.objects.filter(pk=made.pk).update(timezone="Nowhere")
    made.refresh_from_db()
    assert api.next_run_at(made, now=at("2026-03-04 10:07:30")) == made.next_run_at


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_commands_show_it_too(hands: Hands) -> None:
    made, before = make(firer="beat"), timezone.now()
    shown = datetime.fromisoformat(schedule_fields(made)["next_run_at"])
    assert before < shown
