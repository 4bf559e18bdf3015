"""Our occurrences are Beat's, but for the rules that have a name: many crontabs in many zones, and real schedules.

Each certificate compares the next occurrences from some instant on, and every occurrence around the next two changes
of the zone's clock; see `scheduler.beat.certificate`.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from scheduler.beat.certificate import Certificate, certify
from scheduler.beat.differences import DifferenceRule
from scheduler.beat.evaluation import BeatSchedule, beat_occurrences
from scheduler.beat.expressions import (
    BeatCrontab,
    BeatInterval,
    BeatSolar,
    crontab_text,
    interval_text,
    solar_text,
)
from scheduler.errors import InvalidInput
from scheduler.recurrence import Cadence, next_occurrences, validate
from scheduler.recurrence.solar import EVENTS
from scheduler.recurrence.zones import time_line
from tests.scheduler.beat.crontabs import draw_schedules

REAL_SCHEDULES = Path(__file__).parents[4] / "shared" / "data" / "beat_schedules.jsonl"
TWO_YEARS = datetime(2023, 7, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)
SIXTY_YEARS = datetime(1975, 1, 1, tzinfo=UTC), datetime(2035, 1, 1, tzinfo=UTC)
AT_A_CHANGE = {DifferenceRule.SPRING_GAP, DifferenceRule.REPEATED_HOUR}
PLACES = 1_000


def draw_instants(seed: int, between: tuple[datetime, datetime]) -> Iterator[datetime]:
    chance = random.Random(seed)
    start, end = between
    while True:
        yield start + timedelta(seconds=chance.randrange(int((end - start).total_seconds())))


def sweep(seed: int, number: int, between: tuple[datetime, datetime], count: int) -> Counter[DifferenceRule | None]:
    """How many certificates are equal (None) or explained by which rule; fails at one that is neither."""
    found: Counter[DifferenceRule | None] = Counter()
    for (beat, cadence), at in zip(draw_schedules(seed, number), draw_instants(seed, between), strict=False):
        certificate = certify(beat, cadence, made_at=at, count=count)
        assert certificate.is_explained, (cadence, at, certificate)
        assert certificate.is_equal or has_changes(beat.timezone, at, certificate), (cadence, at, certificate)
        found[certificate.rule] += 1
    return found


def has_changes(zone: str, start: datetime, certificate: Certificate) -> bool:
    first, last = (int(at.timestamp()) for at in (start - timedelta(days=1), certificate.evaluated_until))
    return any(True for _ in time_line(zone).changes(first, last))


@pytest.mark.parametrize("seed", range(10))
def test_random_crontabs_occur_when_beat_sends_them_but_for_the_named_rules(seed: int) -> None:
    found = sweep(seed, 1_000, TWO_YEARS, count=6)
    assert found.keys() == {None} | AT_A_CHANGE
    assert found[None] > 700
    assert all(found[rule] > 20 for rule in AT_A_CHANGE)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(100, 110))
def test_random_crontabs_of_sixty_years_occur_when_beat_sends_them_but_for_the_named_rules(seed: int) -> None:
    found = sweep(seed, 20_000, SIXTY_YEARS, count=40)
    assert found.keys() == {None} | AT_A_CHANGE


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_the_sun_does_it_when_beat_sends_but_where_it_grazes() -> None:
    chance = random.Random(5)
    found: Counter[DifferenceRule | None] = Counter()
    for at, _ in zip(draw_instants(5, SIXTY_YEARS), range(PLACES), strict=False):
        latitude = chance.choice([chance.uniform(-89.5, 89.5), chance.choice([-1, 1]) * chance.uniform(50, 80)])
        times = BeatSolar(
            event=chance.choice(list(EVENTS)),
            latitude=Decimal(f"{latitude:.6f}"),
            longitude=Decimal(f"{chance.uniform(-180, 180):.6f}"),
        )
        certificate = certify(
            BeatSchedule(times=times), Cadence("solar", solar_text(times), "UTC"), made_at=at, count=400
        )
        assert certificate.is_explained, (times, at, certificate)
        found[certificate.rule] += 1
    assert found.keys() == {None, DifferenceRule.GRAZING_SUN}
    assert found[None] > 0.9 * PLACES


def load_real_schedules() -> list[tuple[str, BeatSchedule, Cadence]]:
    return [
        (f"{row['project']} {row['name']}", *convert(row))
        for row in map(json.loads, REAL_SCHEDULES.open(encoding="utf-8"))
    ]


def convert(row: dict[str, Any]) -> tuple[BeatSchedule, Cadence]:
    """An entry as Beat holds it, and as it is imported."""
    zone = row["timezone"] or "UTC"
    if row["kind"] == "crontab":
        crontab = BeatCrontab(**{name: str(written) for name, written in row["crontab"].items()})
        return BeatSchedule(times=crontab, timezone=zone), Cadence("crontab", crontab_text(crontab), zone, "celery")
    if row["kind"] == "interval":
        interval = BeatInterval(every=row["every_seconds"], period="seconds")
        return BeatSchedule(times=interval), Cadence("interval", interval_text(interval), "UTC")
    millionth = Decimal("0.000001")
    solar = BeatSolar(
        event=row["solar"]["event"],
        latitude=Decimal(str(row["solar"]["lat"])).quantize(millionth),
        longitude=Decimal(str(row["solar"]["lon"])).quantize(millionth),
    )
    return BeatSchedule(times=solar), Cadence("solar", solar_text(solar), "UTC")


@pytest.mark.skipif(not REAL_SCHEDULES.exists(), reason="absent: shared/data/beat_schedules.jsonl")
def test_every_real_schedule_occurs_when_beat_sends_it_but_for_the_named_rules() -> None:
    schedules = load_real_schedules()
    assert len(schedules) > 300
    found: Counter[DifferenceRule | None] = Counter()
    starts = [TWO_YEARS[0] + timedelta(days=91 * quarter, hours=7) for quarter in range(8)]
    for name, beat, cadence in schedules:
        if not is_accepted(cadence):
            with pytest.raises(InvalidInput):
                beat_occurrences(beat, after=starts[0], count=1)
            continue
        for at in starts:
            certificate = certify(beat, cadence, made_at=at, count=20)
            assert certificate.is_explained, (name, cadence, at, certificate)
            found[certificate.rule] += 1
    assert found.keys() <= {None} | AT_A_CHANGE
    assert found[None] > 2_000


def is_accepted(cadence: Cadence) -> bool:
    try:
        validate(kind=cadence.kind, expression=cadence.expression, timezone=cadence.timezone, dialect=cadence.dialect)
    except InvalidInput:
        return False
    return True


def test_the_comparison_sees_a_difference_of_a_minute() -> None:
    """The sweeps above could otherwise pass for the wrong reason."""
    for (beat, cadence), at in zip(draw_schedules(1, 50), draw_instants(1, TWO_YEARS), strict=False):
        [after] = next_occurrences(
            kind=cadence.kind,
            expression=cadence.expression,
            timezone=cadence.timezone,
            dialect=cadence.dialect,
            after=at,
            count=1,
        )
        assert isinstance(beat.times, BeatCrontab)
        later = (after.astimezone(time_line(beat.timezone).zone).minute + 1) % 60
        moved = BeatSchedule(
            times=BeatCrontab(
                minute=str(later),
                hour=beat.times.hour,
                day_of_month=beat.times.day_of_month,
                month_of_year=beat.times.month_of_year,
                day_of_week=beat.times.day_of_week,
            ),
            timezone=beat.timezone,
        )
        assert not certify(moved, cadence, made_at=at, count=6).is_explained
