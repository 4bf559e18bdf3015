"""The forecast agrees with what each schedule's own occurrences say, and its work is bounded."""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from scheduler import grid
from scheduler.domain import jitter_of
from scheduler.errors import InvalidInput
from scheduler.forecast import Forecast, Scope, forecast, tally
from scheduler.models import PgPeriodicSchedule
from scheduler.recurrence import interval_seconds
from tests.scheduler.schedules.making import at

pytestmark = pytest.mark.django_db

NOW = at("2026-10-24 22:17:31.5")  # the clock of Berlin goes back 2 h 43 min later
MINUTE = timedelta(minutes=1)


def stored(
    expression: str = "*/5 * * * *", kind: str = "crontab", now: datetime = NOW, **columns: Any
) -> PgPeriodicSchedule:
    """A schedule in the database, due next as the choke points would have it at `now`."""
    period = interval_seconds(expression) if kind == "interval" else None
    fixed = {"timezone": "UTC", "dialect": "unix", "enabled": True, "firer": "pg", "organization_id": "default"}
    row = PgPeriodicSchedule(kind=kind, cron_string=expression, interval_seconds=period, **{**fixed, **columns})
    row.pipeline_name, row.task = "x", "echo"
    row.beat_name = str(row.pk)
    if "next_run_at" not in columns:
        row.next_run_at = grid.first_run_at(row, now)
    row.save(force_insert=True)
    return row


def by_hand(rows: list[PgPeriodicSchedule], hours: int) -> tuple[list[int], list[int]]:
    """Fires and starts in each minute, from each row's own occurrences."""
    first = NOW.replace(second=0, microsecond=0)
    fires: Counter[int] = Counter()
    starts: Counter[int] = Counter()
    for row in rows:
        delay = jitter_of(row.pk, row.jitter_seconds) if row.firer == "pg" else timedelta()
        for occurrence in occurrences(row, first + timedelta(hours=hours)):
            fires[(occurrence - first) // MINUTE] += 1
            starts[(occurrence + delay - first) // MINUTE] += 1
    minutes = range(hours * 60)
    return [fires[number] for number in minutes], [starts[number] for number in minutes]


def occurrences(row: PgPeriodicSchedule, until: datetime) -> list[datetime]:
    if not row.enabled or row.next_run_at is None:
        return []
    left, found, after = row.run_limit and row.run_limit - row.run_count, [], NOW - timedelta(microseconds=1)
    while (left is None or len(found) < left) and (following := step(row, after)) is not None and following < until:
        if row.ends_at is not None and following >= row.ends_at:
            break
        if row.starts_at is None or following >= row.starts_at:
            found.append(following)
        after = following
    return found


def step(row: PgPeriodicSchedule, after: datetime) -> datetime | None:
    if row.kind != "interval":
        cadence = {"kind": row.kind, "expression": row.cron_string, "timezone": row.timezone, "dialect": row.dialect}
        return next(iter(grid.next_occurrences(**cadence, after=after, count=1)), None)
    period, following = timedelta(seconds=row.interval_seconds or 0), row.next_run_at
    assert following is not None
    return following if following > after else following + ((after - following) // period + 1) * period


def assert_agrees(made: Forecast, rows: list[PgPeriodicSchedule], hours: int) -> None:
    fires, starts = by_hand(rows, hours)
    assert list(made.fires) == fires
    assert list(made.starts) == starts
    assert made.left_out == 0


CRONTABS = ["* * * * *", "*/7 * * * *", "0 * * * *", "30 0,1,2 * * *", "15 23 24 10 *", "0 0 1 1 *", "@hourly"]
INTERVALS = ["PT1S", "PT7S", "PT1.5S", "PT59.999S", "PT60S", "PT90S", "PT5M", "PT17M", "PT1H", "P1D", "PT0.5H"]


def test_random_schedules_of_every_kind_and_policy_agree_with_a_count_by_hand() -> None:
    dice = random.Random(7)
    rows = []
    for number in range(160):
        fields: dict[str, Any] = {"jitter_seconds": dice.choice([0, 0, 30, 600, 7200])}
        if dice.random() < 0.2:
            fields["starts_at"] = NOW + timedelta(seconds=dice.randrange(10_000))
        if dice.random() < 0.2:
            fields["ends_at"] = NOW + timedelta(seconds=dice.randrange(1, 10_000))
        if dice.random() < 0.2:
            fields |= {"run_limit": 20, "run_count": dice.randrange(21)}
        fields |= {"firer": dice.choice(["pg", "pg", "beat"]), "enabled": dice.random() < 0.9}
        if number % 2:
            rows.append(stored(dice.choice(CRONTABS), timezone=dice.choice(["UTC", "Europe/Berlin"]), **fields))
        else:
            past = NOW + timedelta(microseconds=dice.randrange(-(10**10), 10**10))
            first = past if dice.random() < 0.8 and "starts_at" not in fields else None
            expression = dice.choice([one for one in INTERVALS if one != "PT0.5H"])
            rows.append(stored(expression, "interval", **fields, **({} if first is None else {"next_run_at": first})))
    for text in ("2026-10-24T23:59:59.25Z", "2026-10-25T01:16:59Z", "2026-10-25T01:17:00Z", "2026-10-24T22:17:31.5Z"):
        rows += [stored(text, "clocked", jitter_seconds=jitter) for jitter in (0, 5, 3600)]
    stored("2026-10-24T22:17:31Z", "clocked", next_run_at=NOW - timedelta(seconds=0.5))  # overdue
    rows.append(stored("sunrise 52.52 13.405", "solar", jitter_seconds=120))
    assert_agrees(forecast(hours=3, since=NOW), rows, 3)


def test_a_whole_day_across_a_clock_change_agrees() -> None:
    rows = [stored(one, timezone="Europe/Berlin") for one in CRONTABS for _ in range(3)]
    made = forecast(hours=24, since=NOW)
    assert_agrees(made, rows, 24)
    assert (made.schedules, made.cadences) == (15, 5)  # two crontabs are not due that day
    assert made.until - made.first_minute == timedelta(hours=24)


def test_only_what_is_enabled_and_asked_for_counts() -> None:
    kept = [stored(organization_id="acme"), stored("PT5M", "interval", organization_id="acme")]
    stored(organization_id="acme", enabled=False)
    stored(organization_id="acme", next_run_at=None)
    stored(organization_id="acme", quarantined_at=NOW, quarantine_error="x")
    other = stored(organization_id="zoo")
    mine = forecast(hours=1, since=NOW, scope=Scope(organizations=["acme"]))
    assert_agrees(mine, kept, 1)
    assert mine.schedules == 2
    assert forecast(hours=1, since=NOW, scope=Scope(organizations=[])).schedules == 0
    assert_agrees(forecast(hours=1, since=NOW, scope=Scope(excluded=kept[0].pk)), [kept[1], other], 1)


def test_jitter_spreads_the_starts_and_not_the_fires() -> None:
    rows = [stored("0 23 * * *", jitter_seconds=600) for _ in range(200)]
    made = forecast(hours=2, since=NOW)
    assert max(made.fires) == 200
    assert max(made.starts) < 60
    assert sum(made.starts) == 200
    assert_agrees(made, rows, 2)


def test_the_busiest_minutes_name_their_cadences() -> None:
    for _ in range(3):
        stored("0 23 * * *")
    stored("0 * * * *"), stored("* * * * *")
    made = forecast(hours=3, since=NOW, top=3)
    first, second, third = made.busiest
    assert (first.at, first.fires, first.starts) == (at("2026-10-24 23:00:00"), 5, 5)
    assert [one.schedules for one in first.largest] == [3, 1, 1]
    assert first.largest[0].cadence.expression == "0 23 * * *"
    assert (second.at, second.fires) == (at("2026-10-25 00:00:00"), 2)
    assert third.fires == 2
    assert forecast(hours=1, since=NOW, scope=Scope(organizations=["nobody"])).busiest == ()


def test_what_cannot_be_afforded_is_left_out_and_counted_the_numerous_come_first(monkeypatch: Any) -> None:
    common = [stored("30 * * * *") for _ in range(3)]
    stored("* * * * *"), stored("PT1S", "interval"), stored("PT1H", "interval", next_run_at=NOW)
    monkeypatch.setattr(tally, "_MOST_OCCURRENCES", 10)
    made = forecast(hours=2, since=NOW)
    assert (made.schedules, made.left_out) == (5, 1)
    monkeypatch.setattr(tally, "_MOST_CELLS", 5)
    made = forecast(hours=2, since=NOW)
    assert (made.schedules, made.left_out) == (4, 2)
    hourly = by_hand([*common, PgPeriodicSchedule.objects.get(cron_string="PT1H")], 2)
    assert (list(made.fires), list(made.starts)) == hourly
    monkeypatch.setattr(tally, "_MOST_GROUPS", 1)
    assert forecast(hours=2, since=NOW).left_out == 2


def test_a_row_that_means_nothing_is_left_out_and_stops_nothing() -> None:
    stored("61 * * * *", next_run_at=NOW)
    kept = stored()
    made = forecast(hours=1, since=NOW)
    assert (made.schedules, made.left_out) == (1, 1)
    assert list(made.fires) == by_hand([kept], 1)[0]


def test_by_default_it_begins_now_by_the_databases_clock() -> None:
    made = forecast()
    assert (len(made.fires), sum(made.fires), made.busiest) == (1440, 0, ())
    assert made.first_minute <= made.since < made.first_minute + MINUTE


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"hours": 0}, "hours"), ({"hours": 169}, "hours"), ({"top": -1}, "top"), ({"hours": 1.5}, "hours")],
)
def test_nonsense_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        forecast(**fields)
    assert refused.value.field == field
