"""Which occurrence a send of Celery Beat was, by the mirror row and Beat's instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler.beat.occurrences import EarlierSend, following, occurrence_of
from scheduler.models import PgPeriodicSchedule

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=365)


def ago(**parts: float) -> datetime:
    return NOON - timedelta(**parts)


def ahead(**parts: float) -> datetime:
    return NOON + timedelta(**parts)


def mirror(kind: str, expression: str, **columns: Any) -> PgPeriodicSchedule:
    return PgPeriodicSchedule(
        kind=kind,
        cron_string=expression,
        **{"timezone": "UTC", "dialect": "celery", "updated_at": LONG_AGO, "next_run_at": None} | columns,
    )


def earlier(sent_at: datetime, *, is_own: bool = True, scheduled_for: datetime | None = None) -> EarlierSend:
    return EarlierSend(sent_at=sent_at, scheduled_for=scheduled_for or sent_at, is_own=is_own)


@pytest.mark.parametrize(
    ("expression", "timezone", "sent_at", "occurrence"),
    [
        ("0 12 * * *", "UTC", ahead(milliseconds=3), NOON),
        ("0 12 * * *", "UTC", NOON, NOON),
        ("0 12 * * *", "UTC", ahead(hours=7), NOON),
        ("0 12 * * *", "UTC", ago(microseconds=1), ago(days=1)),
        ("*/15 * * * *", "UTC", ahead(minutes=14, seconds=59), NOON),
        # Beat sends at 03:30 what is due in the spring gap; here it is due at the gap's end.
        (
            "30 2 * * *",
            "America/New_York",
            datetime(2026, 3, 8, 7, 30, tzinfo=UTC),
            datetime(2026, 3, 8, 7, tzinfo=UTC),
        ),
    ],
)
def test_a_crontabs_send_was_for_its_latest_occurrence(
    expression: str, timezone: str, sent_at: datetime, occurrence: datetime
) -> None:
    assert occurrence_of(mirror("crontab", expression, timezone=timezone), sent_at) == occurrence


@pytest.mark.parametrize("late", [timedelta(0), timedelta(microseconds=500), timedelta(seconds=9), timedelta(hours=3)])
def test_an_intervals_send_was_for_one_period_after_the_last(late: timedelta) -> None:
    row = mirror("interval", "PT10S", next_run_at=ahead(days=1))
    assert occurrence_of(row, NOON + late, earlier(ago(seconds=10, microseconds=-500))) == ahead(microseconds=500)


@pytest.mark.parametrize(
    ("expression", "sent_at", "is_own", "is_repeated"),
    [
        ("PT60S", ahead(seconds=40), False, True),  # Beat was killed before it stored when it ran last
        ("PT60S", ahead(seconds=54), False, True),
        ("PT60S", ahead(seconds=56), False, False),  # a little early: the clocks differ
        ("PT60S", ahead(seconds=61), False, False),
        ("PT1S", ahead(seconds=0.4), False, True),
        ("PT1S", ahead(seconds=0.6), False, False),
        ("PT60S", ahead(seconds=40), True, False),  # its own phase: Beat itself held it to be due
    ],
)
def test_another_process_that_sends_well_before_the_next_is_due_repeats_the_last(
    expression: str, sent_at: datetime, *, is_own: bool, is_repeated: bool
) -> None:
    last = earlier(NOON, is_own=is_own, scheduled_for=ago(milliseconds=5))
    period = timedelta(seconds=int(expression[2:-1]))
    expected = last.scheduled_for if is_repeated else NOON + period
    assert occurrence_of(mirror("interval", expression), sent_at, last) == expected


@pytest.mark.parametrize(
    ("next_run_at", "sent_at", "occurrence"),
    [
        (NOON, ahead(seconds=4), NOON),
        (NOON, ago(seconds=1), NOON),
        (ahead(seconds=10), ahead(seconds=4), NOON),  # the shadow has gone on by one
        (ahead(seconds=30), ahead(seconds=4), NOON),
        (NOON, ahead(seconds=10), ahead(seconds=10)),  # so late that the mirror tells nothing
        (None, ahead(seconds=4), ahead(seconds=4)),
    ],
)
@pytest.mark.parametrize("is_changed", [False, True])
def test_the_first_send_of_an_interval_was_for_the_mirrors_next_occurrence(
    next_run_at: datetime | None, sent_at: datetime, occurrence: datetime, *, is_changed: bool
) -> None:
    row = mirror("interval", "PT10S", next_run_at=next_run_at)
    last = None
    if is_changed:
        row.updated_at, last = ago(seconds=20), earlier(ago(seconds=33))
    assert occurrence_of(row, sent_at, last) == occurrence


def test_a_clocked_send_was_for_the_clocked_time_however_late_or_early() -> None:
    row = mirror("clocked", "2026-03-10T12:00:00Z")
    assert occurrence_of(row, ahead(hours=5)) == NOON
    assert occurrence_of(row, ago(milliseconds=200)) == NOON


def test_a_solar_send_was_for_the_nearest_event() -> None:
    row = mirror("solar", "sunset 52.52 13.405")
    event = following(row, NOON)
    assert event is not None
    assert occurrence_of(row, event - timedelta(milliseconds=100)) == event
    assert occurrence_of(row, event + timedelta(hours=2)) == event


@pytest.mark.parametrize(
    ("kind", "expression", "timezone"),
    [
        ("crontab", "61 * * * *", "UTC"),
        ("crontab", "* * * * *", "Mars/Base"),
        ("crontab", "0 0 30 2 *", "UTC"),
        ("interval", "PT0S", "UTC"),
        ("lunar", "full", "UTC"),
    ],
)
def test_what_means_nothing_has_no_occurrence(kind: str, expression: str, timezone: str) -> None:
    row = mirror(kind, expression, timezone=timezone)
    assert occurrence_of(row, NOON, earlier(ago(seconds=10))) is None
    assert following(row, NOON) is None


def test_the_first_send_of_an_interval_was_for_no_instant_before_it_was_imported() -> None:
    row = mirror("interval", "PT7M", next_run_at=ahead(minutes=7))
    row.updated_at = NOON
    assert occurrence_of(row, ahead(minutes=6)) == ahead(minutes=7)
