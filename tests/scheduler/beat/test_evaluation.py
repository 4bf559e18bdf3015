"""When Beat itself would send: Celery's classes, held against dcb's own schedules and against what is known of Beat."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule

from scheduler.beat.evaluation import BeatSchedule, beat_occurrences
from scheduler.beat.expressions import BeatClocked, BeatCrontab, BeatInterval, BeatSolar
from scheduler.errors import InvalidInput
from tests.scheduler.beat.crontabs import draw_schedules

PROJECT = Path(__file__).parents[3]
NEW_YORK = "America/New_York"
MILLISECOND = timedelta(milliseconds=1)


def crontab(text: str, timezone: str = NEW_YORK) -> BeatSchedule:
    minute, hour, month_day, month, weekday = text.split()
    times = BeatCrontab(minute=minute, hour=hour, day_of_month=month_day, month_of_year=month, day_of_week=weekday)
    return BeatSchedule(times=times, timezone=timezone)


def local(text: str, zone: str = NEW_YORK) -> datetime:
    """An instant by its wall clock; `*` at the end: in the second pass."""
    return datetime.fromisoformat(text.removesuffix("*")).replace(tzinfo=ZoneInfo(zone), fold=text.endswith("*"))


def walls(found: list[datetime], zone: str = NEW_YORK) -> list[str]:
    there = [one.astimezone(ZoneInfo(zone)) for one in found]
    return [f"{one:%d %H:%M}{'*' if one.fold else ''}" for one in there]


def chain_of_dcb(schedule: Any, after: datetime, zone: str, count: int) -> list[datetime]:
    """The instants at which dcb's own schedule object says that it is due, each checked on both sides."""
    sent, at = [], after.astimezone(ZoneInfo(zone))
    for _ in range(count):
        last = at
        schedule.nowfun = lambda last=last: last
        at = (last.astimezone(UTC) + timedelta(seconds=schedule.is_due(last).next)).astimezone(ZoneInfo(zone))
        schedule.nowfun = lambda at=at: at
        assert schedule.is_due(last).is_due
        schedule.nowfun = lambda at=at: (at.astimezone(UTC) - MILLISECOND).astimezone(ZoneInfo(zone))
        assert not schedule.is_due(last).is_due
        sent.append(at.astimezone(UTC))
    return sent


@pytest.mark.parametrize(
    ("times", "row"),
    [
        (BeatInterval(every=90, period="seconds"), IntervalSchedule(every=90, period="seconds")),
        (BeatInterval(every=1, period="days"), IntervalSchedule(every=1, period="days")),
        (
            BeatInterval(every=1_500_000, period="microseconds"),
            IntervalSchedule(every=1_500_000, period="microseconds"),
        ),
        (
            BeatSolar(event="dusk_civil", latitude=Decimal("52.520000"), longitude=Decimal("-13.405000")),
            SolarSchedule(event="dusk_civil", latitude=Decimal("52.520000"), longitude=Decimal("-13.405000")),
        ),
    ],
)
def test_beats_sends_are_those_of_dcbs_own_schedules(times: Any, row: Any) -> None:
    after = datetime(2024, 3, 9, 12, 0, 0, 250_000, tzinfo=UTC)
    found = beat_occurrences(BeatSchedule(times=times), after=after, count=5)
    theirs = chain_of_dcb(row.schedule, after, "UTC", 5)
    assert all(abs(one - other) <= MILLISECOND for one, other in zip(found, theirs, strict=True))


def test_beats_sends_of_crontabs_are_those_of_dcbs_own_class() -> None:
    after = datetime(2024, 3, 8, 12, tzinfo=UTC)
    for beat, _ in draw_schedules(seed=3, number=60):
        times = beat.times
        assert isinstance(times, BeatCrontab)
        row = CrontabSchedule(
            minute=times.minute,
            hour=times.hour,
            day_of_month=times.day_of_month,
            month_of_year=times.month_of_year,
            day_of_week=times.day_of_week,
            timezone=ZoneInfo(beat.timezone),
        )
        assert beat_occurrences(beat, after=after, count=6) == chain_of_dcb(row.schedule, after, beat.timezone, 6)


def test_a_clocked_time_is_sent_once_as_dcb_says() -> None:
    at = datetime(2024, 12, 1, 10, 0, 0, 500_000, tzinfo=UTC)
    [found] = beat_occurrences(BeatSchedule(times=BeatClocked(clocked_time=at)), after=at - timedelta(days=9), count=5)
    assert found == at
    theirs = ClockedSchedule(clocked_time=at).schedule
    theirs.nowfun = lambda: at
    assert theirs.is_due(None).is_due


def test_a_clocked_time_that_has_passed_is_sent_at_once() -> None:
    at = datetime(2024, 12, 1, tzinfo=UTC)
    [found] = beat_occurrences(BeatSchedule(times=BeatClocked(clocked_time=at)), after=at + timedelta(days=9), count=5)
    assert at + timedelta(days=9) < found <= at + timedelta(days=9, seconds=1)


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("30 2 * * *", "2024-03-09 12:00", ["10 03:30", "11 02:30"]),
        ("15,45 2 * * *", "2024-03-09 12:00", ["10 03:15", "11 02:15"]),
        ("30 1-4 * * *", "2024-03-10 00:00", ["10 01:30", "10 03:30", "10 04:30"]),
        ("*/30 * * * *", "2024-03-10 01:00", ["10 01:30", "10 03:00", "10 03:30"]),
        ("0 * * * *", "2024-11-02 23:59", ["03 00:00", "03 01:00", "03 02:00"]),
        ("*/15 * * * *", "2024-11-03 01:20", ["03 01:30", "03 01:45", "03 02:00"]),
        ("30 1 * * *", "2024-11-02 12:00", ["03 01:30", "04 01:30"]),
    ],
)
def test_what_beat_does_at_a_clock_change(text: str, after: str, expected: list[str]) -> None:
    found = beat_occurrences(crontab(text), after=local(after), count=len(expected))
    assert walls(found) == expected


def test_a_send_in_a_repeated_hour_is_repeated_until_its_last_match_has_passed() -> None:
    found = beat_occurrences(crontab("*/15 * * * *"), after=local("2024-11-03 01:44:50*"), count=11)
    assert [one.astimezone(ZoneInfo(NEW_YORK)).strftime("%H:%M:%S") for one in found[:3]] == [
        "01:44:51", "01:44:52", "01:44:53",
    ]  # fmt: skip
    assert walls(found)[-2:] == ["03 01:45*", "03 02:00"]


def test_each_send_is_after_the_last_and_in_utc() -> None:
    for beat, _ in draw_schedules(seed=4, number=40):
        found = beat_occurrences(beat, after=datetime(2024, 3, 30, tzinfo=UTC), count=30)
        assert all(before < after for before, after in pairwise(found))
        assert {one.tzinfo for one in found} == {UTC}


def test_the_calendars_end_ends_the_sends() -> None:
    found = beat_occurrences(crontab("0 0 29 2 mon"), after=datetime(2999, 1, 1, tzinfo=UTC), count=1000)
    assert 200 < len(found) < 300


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        (crontab("61 * * * *"), "expression"),
        (crontab("* * * * 7"), "expression"),
        (crontab("*/0 * * * *"), "expression"),
        (crontab("0 0 30 2 *"), "expression"),
        (crontab("x * * * *"), "expression"),
        (crontab("0 0 * * *", "Europe/Berlim"), "timezone"),
        (BeatSchedule(times=BeatInterval(every=1, period="fortnights")), "expression"),
        (BeatSchedule(times=BeatSolar(event="sunup", latitude=Decimal(1), longitude=Decimal(1))), "expression"),
        (BeatSchedule(times=BeatSolar(event="sunset", latitude=Decimal(91), longitude=Decimal(1))), "expression"),
    ],
)
def test_what_celery_refuses_is_refused_by_field(schedule: BeatSchedule, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        beat_occurrences(schedule, after=datetime(2024, 1, 1, tzinfo=UTC), count=1)
    assert caught.value.field == field


def test_a_naive_start_is_refused() -> None:
    with pytest.raises(InvalidInput, match="after: expected a datetime with a time zone"):
        beat_occurrences(crontab("0 0 * * *"), after=datetime(2024, 1, 1), count=1)


def test_celery_is_loaded_only_when_beat_is_asked() -> None:
    script = (
        "import sys\n"
        "from datetime import UTC, datetime\n"
        "from scheduler.beat import certificate\n"
        "from scheduler.beat.evaluation import BeatSchedule, beat_occurrences\n"
        "from scheduler.beat.expressions import BeatInterval\n"
        "print('celery' in sys.modules)\n"
        "every = BeatSchedule(times=BeatInterval(every=1, period='days'))\n"
        "print(beat_occurrences(every, after=datetime(2024, 1, 1, tzinfo=UTC), count=1)[0], 'celery' in sys.modules)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout == "False\n2024-01-02 00:00:00+00:00 True\n"
