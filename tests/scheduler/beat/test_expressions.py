"""What Celery Beat can hold, held against Celery's own crontab and this project's evaluator."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from celery.schedules import crontab

from scheduler.api import next_occurrences
from scheduler.beat.expressions import BeatCrontab, BeatInterval, beat_crontab, beat_interval


@pytest.mark.parametrize(
    ("expression", "dialect", "fields"),
    [
        ("*/15 * * * *", "unix", "*/15 * * * *"),
        ("0 9-17/2 * * mon-fri", "unix", "0 9-17/2 * * mon-fri"),
        ("0 0 * * 7", "unix", "0 0 * * 0"),
        ("0 0 * * 5-7", "unix", "0 0 * * 0,5,6"),
        ("59/15 * * * *", "unix", "59 * * * *"),
        ("@weekly", "unix", "0 0 * * 0"),
        ("0 0 1-31 * 1", "unix", "0 0 * * *"),
        ("0 0 */2 * 1", "unix", "0 0 */2 * 1"),
        ("0 0 1 * 1", "celery", "0 0 1 * 1"),
        ("0 22-2 * * *", "celery", "0 22-2 * * *"),
        ("@hourly", "celery", "0 * * * *"),
    ],
)
def test_an_expression_is_spelt_as_celery_reads_it(expression: str, dialect: str, fields: str) -> None:
    minute, hour, day, month, weekday = fields.split()
    assert beat_crontab(expression, dialect) == BeatCrontab(
        minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday
    )


@pytest.mark.parametrize("expression", ["0 0 1 * 1", "0 0 1,15 * fri", "0 0 L * *", "0 0 * * 2#2", "0 0 * * L5"])
def test_what_celery_would_read_otherwise_is_not_expressed(expression: str) -> None:
    assert beat_crontab(expression, "unix") is None


def test_a_text_too_long_for_its_column_is_written_out_or_shortened() -> None:
    long = ",".join(["0-59"] * 60) + " * * * *"
    expressed = beat_crontab(long, "celery")
    assert expressed is not None
    assert expressed.minute == "*"


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 * * 7",
        "0 12 * * 5-7",
        "5,59/15 3 * * *",
        "30 2 1-31 2 *",
        "0 0 */2 * 1",
        "1-9/3 */5 * jan-mar sun",
        "@monthly",
    ],
)
def test_celery_itself_names_the_same_instants(expression: str) -> None:
    expressed = beat_crontab(expression, "unix")
    assert expressed is not None
    theirs = crontab(
        minute=expressed.minute,
        hour=expressed.hour,
        day_of_week=expressed.day_of_week,
        day_of_month=expressed.day_of_month,
        month_of_year=expressed.month_of_year,
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ours = next_occurrences(kind="crontab", expression=expression, timezone="UTC", after=start, count=60)
    last = start
    for at in ours:
        theirs.nowfun = lambda last=last: last
        last += theirs.remaining_estimate(last)
        assert last == at


@pytest.mark.parametrize(
    ("expression", "every", "unit"),
    [
        ("P1W", 7, "days"),
        ("PT24H", 1, "days"),
        ("PT90M", 90, "minutes"),
        ("PT90S", 90, "seconds"),
        ("PT1.5S", 1_500_000, "microseconds"),
        ("P3650D", 3650, "days"),
    ],
)
def test_an_interval_takes_the_largest_unit_that_divides_it(expression: str, every: int, unit: str) -> None:
    expressed = beat_interval(expression)
    assert expressed == BeatInterval(every=every, period=unit)
    assert timedelta(**{unit: every}) > timedelta(0)


def test_fractions_of_a_second_over_35_minutes_are_not_expressed() -> None:
    assert beat_interval("PT2148.001S") is None
    assert beat_interval("PT2147.001S") is not None
