"""A schedule that joins a minute in which many others begin is found out before it is saved."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from scheduler import clock
from scheduler.domain import jitter_of
from scheduler.forecast import Herd, Scope, find_herd
from scheduler.models import PgPeriodicSchedule
from scheduler.recurrence import next_occurrences
from tests.scheduler.forecast import test_forecast

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _few() -> Any:
    with override_settings(SCHEDULER={"HERD_WARNING": 5}):
        yield


def stored(*fields: str, **columns: Any) -> PgPeriodicSchedule:
    """A schedule as it is stored now."""
    return test_forecast.stored(*fields, now=clock.now("default"), **columns)


def ahead(expression: str, kind: str = "crontab") -> list[Any]:
    """Its next ten occurrences."""
    return next_occurrences(
        kind=kind, expression=expression, timezone="UTC", after=clock.now("default"), count=10, dialect="unix"
    )


def herd(expression: str = "30 4 * * *", **options: Any) -> Herd | None:
    return find_herd(ahead(expression), **options)


def test_more_others_than_the_setting_says_are_a_herd() -> None:
    for _ in range(5):
        stored("30 4 * * *")
    assert herd() is None
    stored("30 * * * *", firer="beat")
    found = herd()
    assert found is not None
    assert (found.at, found.others) == (ahead("30 4 * * *")[0], 6)
    assert found.jitter_seconds == 120  # six others and itself, five a minute
    assert found.sentence.startswith(
        f"6 other schedules begin in the same minute as this one, {found.at:%Y-%m-%d} 04:30 UTC."
    )
    assert "A jitter of 120 seconds" in found.sentence
    assert herd("31 4 * * *") is None


def test_the_busiest_of_the_next_ten_occurrences_counts() -> None:
    third = ahead("0 * * * *")[2]
    for _ in range(7):
        stored(f"0 {third.hour} * * *")
    found = herd("0 * * * *")
    assert found is not None
    assert (found.at, found.others) == (third, 7)


def test_a_schedule_does_not_count_itself_nor_what_is_out_of_scope_or_not_enabled() -> None:
    rows = [stored("30 4 * * *", organization_id="acme") for _ in range(6)]
    stored("30 4 * * *", organization_id="acme", enabled=False)
    stored("30 4 * * *", organization_id="acme", next_run_at=None)
    found = herd()
    assert found is not None
    assert found.others == 6
    assert herd(scope=Scope(excluded=rows[0].pk)) is None
    assert herd(scope=Scope(organizations=["zoo"])) is None
    assert herd(scope=Scope(organizations=["zoo", "acme"])) is not None


def test_others_that_are_spread_by_jitter_and_one_that_has_it_are_no_herd() -> None:
    for _ in range(20):
        stored("30 4 * * *", jitter_seconds=36_000)
    assert herd() is None
    rows = [stored("30 4 * * *") for _ in range(6)]
    assert herd() is not None
    assert herd(jitter_seconds=60) is None
    assert herd(jitter_seconds=59) is not None
    PgPeriodicSchedule.objects.filter(pk__in=[row.pk for row in rows]).delete()


def test_others_are_counted_where_their_jitter_puts_them() -> None:
    rows = [stored("30 4 * * *", jitter_seconds=600) for _ in range(60)]
    later = Counter(jitter_of(row.pk, 600) // timedelta(minutes=1) for row in rows)
    [(minutes, crowd)] = later.most_common(1)  # 6 at least: there are 60 in 10 minutes
    found = herd(f"{30 + minutes} 4 * * *")
    assert found is not None
    assert found.others == crowd


def test_intervals_and_clocked_ones_count_where_their_own_grid_begins_in_the_minute() -> None:
    minute = ahead("30 4 * * *")[0]
    for seconds in (0, 59):
        stored("PT1H", "interval", next_run_at=minute - timedelta(hours=2) + timedelta(seconds=seconds))
    stored("PT1H", "interval", next_run_at=minute - timedelta(hours=1, seconds=1))
    stored("PT1H", "interval", next_run_at=minute + timedelta(minutes=1))
    stored("PT1S", "interval", next_run_at=minute - timedelta(days=1))
    stored("PT1H", "interval", next_run_at=minute - timedelta(hours=2), ends_at=minute)
    stored("PT1H", "interval", next_run_at=minute - timedelta(hours=2), run_limit=2)
    stored("PT7H", "interval", next_run_at=minute)
    stored(f"{minute:%Y-%m-%dT%H:%M:59Z}", "clocked", next_run_at=minute + timedelta(seconds=59))
    stored(f"{minute:%Y-%m-%dT%H:%M:00Z}", "clocked", next_run_at=minute - timedelta(days=1))
    with override_settings(SCHEDULER={"HERD_WARNING": 1}):
        found = herd()
    assert found is not None
    assert found.others == 5


def test_bounds_of_others_are_kept() -> None:
    first = ahead("30 4 * * *")[0]
    for _ in range(6):
        stored("30 4 * * *", run_limit=1)
    found = herd()
    assert found is not None
    assert found.at == first
    assert find_herd(ahead("30 4 * * *")[1:]) is None
    PgPeriodicSchedule.objects.update(run_limit=None, ends_at=first)
    assert herd() is None
    PgPeriodicSchedule.objects.update(ends_at=None, starts_at=first + timedelta(days=30))
    assert herd() is None


def test_one_that_occurs_too_often_for_a_jitter_is_told_to_move() -> None:
    for _ in range(6):
        stored("* * * * *")
    found = herd("* * * * *")
    assert found is not None
    assert found.jitter_seconds is None
    assert "begin at another minute" in found.sentence


def test_a_suggested_jitter_never_reaches_the_next_occurrence() -> None:
    for _ in range(60):
        stored("*/5 * * * *")
    found = herd("*/5 * * * *")
    assert found is not None
    assert found.jitter_seconds == 150


def test_without_an_occurrence_or_with_rows_that_mean_nothing_there_is_none() -> None:
    assert find_herd([]) is None
    for _ in range(6):
        stored("61 4 * * *", next_run_at=clock.now("default"))
    assert herd() is None


@pytest.mark.postgresql("it has PostgreSQL refuse to write")
def test_looking_for_one_writes_nothing() -> None:
    stored("30 4 * * *")
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        herd()
