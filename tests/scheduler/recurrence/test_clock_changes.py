"""The rules for clock changes as a table: local wall times in, UTC instants out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from scheduler.recurrence import Cadence, count_between, evaluate, next_occurrences
from scheduler.recurrence.instants import moment, seconds_down
from scheduler.recurrence.zones import time_line
from tests.scheduler.recurrence.oracle import find_changes

NEW_YORK, LORD_HOWE, SAO_PAULO = "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo"
TROLL, APIA, LONDON = "Antarctica/Troll", "Pacific/Apia", "Europe/London"

GAPS = [
    # fixed: moved to the gap's end
    ("30 2 * * *", NEW_YORK, "2024-03-10T05:00", ["2024-03-10T07:00", "2024-03-11T06:30"]),
    ("0 2 * * *", NEW_YORK, "2024-03-10T05:00", ["2024-03-10T07:00", "2024-03-11T06:00"]),
    ("59 2 * * *", NEW_YORK, "2024-03-10T05:00", ["2024-03-10T07:00", "2024-03-11T06:59"]),
    # fixed: two in the gap, and one on its end, are one
    ("15,45 2 * * *", NEW_YORK, "2024-03-10T05:00", ["2024-03-10T07:00", "2024-03-11T06:15"]),
    ("0 2,3 * * *", NEW_YORK, "2024-03-10T05:00", ["2024-03-10T07:00", "2024-03-11T06:00"]),
    # lists and ranges are fixed, also full ones
    ("30 0-23 * * *", NEW_YORK, "2024-03-10T06:00", ["2024-03-10T06:30", "2024-03-10T07:00", "2024-03-10T07:30"]),
    # wild: no occurrence in the gap
    ("*/30 * * * *", NEW_YORK, "2024-03-10T06:00", ["2024-03-10T06:30", "2024-03-10T07:00", "2024-03-10T07:30"]),
    ("*/30 2 * * *", NEW_YORK, "2024-03-10T05:00", ["2024-03-11T06:00", "2024-03-11T06:30"]),
    ("30 */2 * * *", NEW_YORK, "2024-03-10T05:00", ["2024-03-10T05:30", "2024-03-10T08:30"]),
    # half an hour, at midnight, two hours
    ("15 2 * * *", LORD_HOWE, "2024-10-05T12:00", ["2024-10-05T15:30", "2024-10-06T15:15"]),
    ("0 0 * * *", SAO_PAULO, "2018-11-03T12:00", ["2018-11-04T03:00", "2018-11-05T02:00"]),
    ("30 1 * * *", TROLL, "2024-03-30T12:00", ["2024-03-31T01:00", "2024-03-31T23:30"]),
    # a skipped day is longer than three hours
    ("0 12 * * *", APIA, "2011-12-29T12:00", ["2011-12-29T22:00", "2011-12-30T22:00"]),
]

FOLDS = [
    # fixed: the first pass only
    ("30 1 * * *", NEW_YORK, "2024-11-03T04:30", ["2024-11-03T05:30", "2024-11-04T06:30"]),
    ("0 1,2 * * *", NEW_YORK, "2024-11-03T04:30", ["2024-11-03T05:00", "2024-11-03T07:00", "2024-11-04T06:00"]),
    ("30 0-23 * * *", NEW_YORK, "2024-11-03T05:00", ["2024-11-03T05:30", "2024-11-03T07:30"]),
    # wild: both passes
    ("30 * * * *", NEW_YORK, "2024-11-03T05:00", ["2024-11-03T05:30", "2024-11-03T06:30", "2024-11-03T07:30"]),
    ("*/30 1 * * *", NEW_YORK, "2024-11-03T05:15", ["2024-11-03T05:30", "2024-11-03T06:00", "2024-11-03T06:30"]),
    # half an hour, at midnight, two hours
    ("45 1 * * *", LORD_HOWE, "2024-04-06T12:00", ["2024-04-06T14:45", "2024-04-07T15:15"]),
    ("*/15 * * * *", LORD_HOWE, "2024-04-06T14:45", ["2024-04-06T15:00", "2024-04-06T15:15", "2024-04-06T15:30"]),
    ("30 23 * * *", SAO_PAULO, "2018-02-17T12:00", ["2018-02-18T01:30", "2018-02-19T02:30"]),
    ("30 1,2 * * *", TROLL, "2024-10-26T20:00", ["2024-10-26T23:30", "2024-10-27T00:30", "2024-10-28T01:30"]),
    # asked between the passes, and inside the second
    ("30 1 * * *", LONDON, "2024-10-27T00:30", ["2024-10-28T01:30"]),
    ("30 1 * * *", LONDON, "2024-10-27T01:10", ["2024-10-28T01:30"]),
    ("*/30 1 * * *", LONDON, "2024-10-27T01:10", ["2024-10-27T01:30", "2024-10-28T01:00"]),
]


@pytest.mark.parametrize("dialect", ["unix", "celery"])
@pytest.mark.parametrize(("expression", "zone", "after", "expected"), GAPS + FOLDS)
def test_a_clock_change_places_occurrences_by_the_rules(
    expression: str, zone: str, after: str, expected: list[str], dialect: str
) -> None:
    found = next_occurrences(
        kind="crontab",
        expression=expression,
        timezone=zone,
        dialect=dialect,
        after=datetime.fromisoformat(after).replace(tzinfo=UTC),
        count=len(expected),
    )
    assert [one.strftime("%Y-%m-%dT%H:%M") for one in found] == expected


@pytest.mark.parametrize(("expression", "zone", "after", "expected"), GAPS + FOLDS)
def test_neighbours_and_counts_follow_the_same_rules(
    expression: str, zone: str, after: str, expected: list[str]
) -> None:
    cadence = Cadence("crontab", expression, zone)
    start, *occurrences = (datetime.fromisoformat(one).replace(tzinfo=UTC) for one in [after, *expected])
    for earlier, later in pairwise(occurrences):
        found = evaluate(cadence, later)
        assert (found.before_latest, found.latest) == (earlier, later)
        just_before = evaluate(cadence, later - timedelta(microseconds=1))
        assert (just_before.latest, just_before.next) == (earlier, later)
    just_after = start + timedelta(seconds=1)
    assert count_between(cadence, just_after, occurrences[-1], 10) == len(expected) - 1
    assert count_between(cadence, just_after, occurrences[-1] + timedelta(seconds=1), 10) == len(expected)


def test_occurrences_are_utc_and_strictly_after() -> None:
    on_time = datetime(2024, 6, 1, 3, tzinfo=UTC)
    found = next_occurrences(kind="crontab", expression="0 3 * * *", timezone="UTC", after=on_time, count=1)
    assert found == [datetime(2024, 6, 2, 3, tzinfo=UTC)]
    assert found[0].tzinfo is UTC
    just_before = on_time.replace(hour=2, minute=59, second=59, microsecond=999_999)
    assert next_occurrences(
        kind="crontab", expression="0 3 * * *", timezone="UTC", after=just_before, count=1
    ) == [on_time]  # fmt: skip


def test_an_alias_of_a_zone_is_that_zone() -> None:
    after = datetime(2024, 6, 1, tzinfo=UTC)
    by_name = [
        next_occurrences(kind="crontab", expression="0 9 * * *", timezone=name, after=after, count=3)
        for name in ("Asia/Calcutta", "Asia/Kolkata")
    ]
    assert by_name[0] == by_name[1]


@pytest.mark.parametrize("zone", [NEW_YORK, LORD_HOWE, TROLL, "Africa/Casablanca", "Africa/Cairo", "Asia/Tokyo", "UTC"])
def test_the_changes_of_a_zones_clock_are_listed(zone: str) -> None:
    start, end = (datetime(year, 1, 1, tzinfo=UTC) for year in (2010, 2025))
    listed = [moment(change.start) for change in time_line(zone).changes(seconds_down(start), seconds_down(end))]
    hours = [hour for year in range(2010, 2025) for hour in find_changes(zone, year)]
    assert len(listed) == len(hours)
    assert all(hour < one <= hour + timedelta(hours=1) for hour, one in zip(hours, listed, strict=True) if one)


def test_a_change_at_the_start_is_over_and_one_at_the_end_is_listed() -> None:
    at = seconds_down(datetime(2024, 3, 10, 7, tzinfo=UTC))
    line = time_line(NEW_YORK)
    assert [change.start for change in line.changes(at - 1, at)] == [at]
    assert list(line.changes(at, at + 86_400)) == []
