"""The words in which schedules are asked for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduler.api import PgPeriodicSchedule, ScheduleRun, ScheduleState
from tests.scheduler.schedules.conftest import Hands
from tests.scheduler.schedules.making import at, make

pytestmark = pytest.mark.django_db


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_every_schedule_is_in_the_one_state_that_it_says(hands: Hands) -> None:
    make(name="active")
    make(name="paused", enabled=False)
    make(name="ended", ends_at=hands.now)
    make(name="paused", enabled=False, ends_at=hands.now)
    make(name="ended", firer="beat", ends_at=at("2026-03-03 00:00:00"))  # past, by the real clock: nobody has noted it
    make(name="active", firer="beat", ends_at=at("2999-01-01 00:00:00"))
    make(name="active", firer="beat")
    make(name="active", ends_at=at("2026-03-03 00:00:00"))  # the tick will note it
    for name in ("quarantined", "quarantined"):
        held = make(name=name, enabled=name == "x")
        PgPeriodicSchedule.objects.filter(pk=held.pk).update(quarantined_at=hands.now)
    found = {state: set(PgPeriodicSchedule.objects.in_state(state)) for state in ScheduleState}
    assert sum(len(rows) for rows in found.values()) == 10
    for state, rows in found.items():
        assert {(row.pipeline_name, row.state) for row in rows} == {(state.value, state)}
    assert set(PgPeriodicSchedule.objects.quarantined()) == found[ScheduleState.QUARANTINED]
    assert set(PgPeriodicSchedule.objects.paused()) == found[ScheduleState.PAUSED]
    with pytest.raises(ValueError, match="asleep"):
        PgPeriodicSchedule.objects.in_state("asleep")


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_due_is_what_pg_would_fire_the_longest_due_first(hands: Hands) -> None:
    later, sooner = make(name="later"), make(name="sooner", expression="8 * * * *")
    make(firer="beat")
    make(enabled=False)
    assert list(PgPeriodicSchedule.objects.due(at("2026-03-02 10:07:59"))) == []
    assert list(PgPeriodicSchedule.objects.due(at("2026-03-02 10:08:00"))) == [sooner]
    assert list(PgPeriodicSchedule.objects.due(at("2026-03-02 10:10:00"))) == [sooner, later]


def test_no_organization_sees_nothing() -> None:
    make(organization_id="acme")
    assert not PgPeriodicSchedule.objects.for_organizations([]).exists()
    assert PgPeriodicSchedule.objects.for_organizations(["acme", "zoo"]).count() == 1


def test_runs_are_found_by_schedule_organization_and_state(hands: Hands) -> None:
    made = make(organization_id="acme")
    for minute, state in enumerate(("fired", "paused", "failed")):
        ScheduleRun.objects.create(
            schedule_id=made.pk,
            organization_id="acme",
            scheduled_for=hands.now + timedelta(minutes=minute),
            firer="pg",
            state=state,
            fired_at=None if state == "paused" else hands.now,
        )
    runs = ScheduleRun.objects.of_schedule(made.pk)
    assert [run.state for run in runs.latest_first()] == ["failed", "paused", "fired"]
    assert [run.state for run in runs.fired().latest_first()] == ["failed", "fired"]
    assert not runs.manual().exists()
    assert not ScheduleRun.objects.for_organizations(["zoo"]).exists()
