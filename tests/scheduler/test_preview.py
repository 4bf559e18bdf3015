"""What lies ahead of a schedule under our rules and Celery Beat's, side by side, also around the next clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler import api, preview
from scheduler.domain import CronDialect, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.models import PgPeriodicSchedule
from tests.scheduler.schedules.making import at

NOW = at("2026-11-24 15:07:30")
BERLIN = "Europe/Berlin"


def cadence(expression: str, *, kind: str = "crontab", timezone: str = BERLIN, dialect: str = "unix") -> api.Cadence:
    return api.Cadence(ScheduleKind(kind), expression, timezone, CronDialect(dialect))


def shown(expression: str, count: int = 3, **fields: Any) -> api.Preview:
    return api.preview(cadence(expression, **fields), after=NOW, count=count)


def row(expression: str = "30 2 * * *", **columns: Any) -> PgPeriodicSchedule:
    """A schedule as it could be stored."""
    columns = {"kind": "crontab", "timezone": BERLIN, "dialect": "unix", "enabled": True, "firer": "pg"} | columns
    return PgPeriodicSchedule(cron_string=expression, **{"next_run_at": at("2026-11-25 01:30:00"), **columns})


def test_what_occurs_in_the_spring_gap_stands_beside_what_beat_sends_instead_with_the_rule() -> None:
    found = shown("30 2 * * *")
    assert [(one.pg, one.beat, one.differs) for one in found.rows[:1]] == [
        (at("2026-11-25 01:30:00"), at("2026-11-25 01:30:00"), False)
    ]
    spring, autumn = found.changes
    assert (spring.at, spring.offset_before, spring.offset_after) == (
        at("2027-03-28 01:00:00"),
        timedelta(hours=1),
        timedelta(hours=2),
    )
    [different] = [one for one in spring.rows if one.differs]
    assert (different.pg, different.beat) == (at("2027-03-28 01:00:00"), at("2027-03-28 01:30:00"))
    assert different.rule == "spring_gap"
    assert "02:30 becomes 03:30" in different.reason
    assert autumn.at == at("2027-10-31 01:00:00")
    assert [one.differs for one in autumn.rows] == [False] * len(autumn.rows)


def test_the_repeated_hour_is_ours_alone() -> None:
    _, autumn = shown("*/30 * * * *").changes
    assert [(one.pg, one.beat, one.rule) for one in autumn.rows if one.differs] == [
        (at("2027-10-31 01:00:00"), None, "repeated_hour"),
        (at("2027-10-31 01:30:00"), None, "repeated_hour"),
    ]
    assert autumn.left_out == 0


def test_around_a_change_those_nearest_to_it_are_shown_and_the_others_counted() -> None:
    spring, _ = shown("* * * * *").changes
    assert len(spring.rows) == preview.MOST_AT_A_CHANGE
    assert spring.left_out > 100
    instants = [one.pg for one in spring.rows]
    assert instants == sorted(instants)  # type: ignore[type-var]
    assert instants[0] < spring.at <= instants[-1]  # type: ignore[operator]


def test_a_zone_without_clock_changes_has_none_to_show() -> None:
    assert shown("30 2 * * *", timezone="UTC").changes == ()


def test_what_beat_cannot_hold_is_shown_as_it_would_read_the_same_fields() -> None:
    found = shown("0 0 1 * 1", 10)
    assert "cannot hold this expression with the same meaning" in found.note
    assert {one.rule for one in found.rows} == {"either_day"}
    assert all(one.beat is None for one in found.rows)


@pytest.mark.parametrize(
    ("expression", "fields"),
    [("0 0 L * *", {}), ("0 0 30 2 1", {}), ("PT1H0.5S", {"kind": "interval"})],
    ids=["last day", "never to Celery", "fraction of a second"],
)
def test_where_beat_can_make_nothing_of_it_only_ours_is_shown(expression: str, fields: dict[str, str]) -> None:
    found = shown(expression, **fields)
    assert found.note == "Celery Beat cannot hold this expression."
    assert len(found.rows) == 3
    assert all(one.pg and one.beat is None and not one.differs for one in found.rows)


@pytest.mark.parametrize(
    ("expression", "kind"),
    [("PT90S", "interval"), ("2027-01-01T00:00:00Z", "clocked"), ("sunset 52.52 13.405", "solar")],
)
def test_every_other_kind_is_equal_and_knows_no_clock_change(expression: str, kind: str) -> None:
    found = shown(expression, kind=kind)
    assert found.rows
    assert all(one.pg == one.beat and not one.differs for one in found.rows)
    assert (found.changes, found.note) == ((), "")


def test_without_celery_ours_is_shown_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "is_celery_installed", lambda: False)
    found = shown("*/30 * * * *")
    assert found.note.startswith("Celery is not installed")
    assert len(found.changes) == 2
    assert {one.beat for part in [found, *found.changes] for one in part.rows} == {None}


def test_a_clocked_one_needs_django_celery_beat_for_beats_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview.beat, "is_installed", lambda: False)
    assert shown("2027-01-01T00:00:00Z", kind="clocked").note.startswith("django-celery-beat is not installed")
    assert shown("30 2 * * *").note == ""


@pytest.mark.parametrize(("fields", "field"), [({"timezone": "Nowhere"}, "timezone"), ({}, "expression")])
def test_nonsense_is_refused_by_its_field(fields: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        shown("61 * * * *" if field == "expression" else "@daily", **fields)
    assert refused.value.field == field


def instants(found: api.Preview) -> list[datetime | None]:
    return [one.pg for one in found.rows]


def test_a_stored_schedule_keeps_its_start_end_and_limit() -> None:
    ends = row(ends_at=at("2026-11-27 01:30:00"))
    assert instants(api.preview_of(ends, now=NOW, count=5)) == [at("2026-11-25 01:30:00"), at("2026-11-26 01:30:00")]
    assert all(change.rows == () for change in api.preview_of(ends, now=NOW, count=5).changes)
    once = row(run_limit=3, run_count=2)
    assert instants(api.preview_of(once, now=NOW, count=5)) == [at("2026-11-25 01:30:00")]
    assert all(change.rows == () for change in api.preview_of(once, now=NOW, count=5).changes)
    later = row(starts_at=at("2027-01-01 00:00:00"), next_run_at=at("2027-01-01 01:30:00"))
    assert instants(api.preview_of(later, now=NOW, count=1)) == [at("2027-01-01 01:30:00")]
    assert api.preview_of(row(next_run_at=None), now=NOW, count=5).rows == ()


def test_a_paused_one_is_shown_as_if_it_were_resumed() -> None:
    paused = row(enabled=False, next_run_at=at("2026-11-20 01:30:00"))
    assert instants(api.preview_of(paused, now=NOW, count=1)) == [at("2026-11-25 01:30:00")]


def test_a_stored_interval_keeps_its_grid_on_both_sides() -> None:
    stored = row("PT10M", kind="interval", interval_seconds=600, next_run_at=NOW + timedelta(seconds=123.5))
    found = api.preview_of(stored, now=NOW, count=3)
    grid = [NOW + timedelta(seconds=123.5) + step * timedelta(minutes=10) for step in range(3)]
    assert [(one.pg, one.beat) for one in found.rows] == [(one, one) for one in grid]


def test_it_agrees_with_what_upcoming_says() -> None:
    stored = row("*/7 3-5 * * *", next_run_at=at("2026-11-25 02:00:00"))
    ahead = api.next_occurrences(
        kind="crontab", expression="*/7 3-5 * * *", timezone=BERLIN, after=NOW, count=50, dialect="unix"
    )
    assert instants(api.preview_of(stored, now=NOW, count=50)) == ahead
    assert ahead[0].astimezone(UTC) == stored.next_run_at
