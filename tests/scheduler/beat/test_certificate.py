"""Certificates: equal where the two evaluators agree, and otherwise the difference with the rule it follows from."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from scheduler.beat.certificate import Certificate, certify
from scheduler.beat.differences import Difference, DifferenceRule, explain
from scheduler.beat.evaluation import BeatSchedule, beat_occurrences
from scheduler.beat.expressions import (
    BeatClocked,
    BeatInterval,
    BeatSolar,
    beat_crontab,
    clocked_text,
    interval_text,
    solar_text,
)
from scheduler.errors import InvalidInput
from scheduler.recurrence import Cadence

NEW_YORK = "America/New_York"
WINTER = datetime(2024, 2, 1, 12, tzinfo=UTC)
SPRING = datetime(2024, 3, 10, 7, tzinfo=UTC)
"""The gap's end in New York."""
AUTUMN = datetime(2024, 11, 3, 6, tzinfo=UTC)
"""Where the second pass begins there."""
MINUTE = timedelta(minutes=1)


def as_beat_holds(text: str, zone: str = NEW_YORK) -> BeatSchedule:
    times = beat_crontab(text, "celery")
    assert times is not None
    return BeatSchedule(times=times, timezone=zone)


def certify_crontab(text: str, zone: str = NEW_YORK, at: datetime = WINTER, count: int = 50) -> Certificate:
    return certify(as_beat_holds(text, zone), Cadence("crontab", text, zone, "celery"), made_at=at, count=count)


@pytest.mark.parametrize("text", ["0 9 * * mon-fri", "0 1,2 * * *", "30 4 1 * *", "0 0 1,15 * mon", "0 0 29 2 *"])
def test_schedules_that_no_clock_change_touches_are_equal(text: str) -> None:
    certificate = certify_crontab(text)
    assert certificate.is_equal
    assert certificate.is_explained
    assert (certificate.first_difference, certificate.rule) == (None, None)
    assert certificate.compared >= 50
    assert certificate.made_at == WINTER


def test_every_minute_of_utc_is_equal() -> None:
    certificate = certify_crontab("* * * * *", "UTC", count=90)
    assert (certificate.is_equal, certificate.compared) == (True, 90)
    assert certificate.evaluated_until == WINTER + 90 * MINUTE


@pytest.mark.parametrize(
    ("text", "beat", "ours", "rule"),
    [
        ("30 2 * * *", SPRING + 30 * MINUTE, SPRING, DifferenceRule.SPRING_GAP),
        ("15,45 2 * * *", SPRING + 15 * MINUTE, SPRING, DifferenceRule.SPRING_GAP),
        ("30 2-4 * * *", None, SPRING, DifferenceRule.SPRING_GAP),
        ("30 */2 * * *", SPRING + 30 * MINUTE, None, DifferenceRule.SPRING_GAP),
        ("0 * * * *", None, AUTUMN, DifferenceRule.REPEATED_HOUR),
        ("*/15 * * * *", None, AUTUMN, DifferenceRule.REPEATED_HOUR),
        ("45 * * * *", None, AUTUMN + 45 * MINUTE, DifferenceRule.REPEATED_HOUR),
    ],
)
def test_a_difference_at_a_clock_change_is_shown_with_its_rule(
    text: str, beat: datetime | None, ours: datetime | None, rule: DifferenceRule
) -> None:
    certificate = certify_crontab(text)
    assert not certificate.is_equal
    assert certificate.is_explained
    assert certificate.first_difference == Difference(beat, ours)
    assert certificate.rule is rule
    assert rule.sentence


def test_the_next_two_clock_changes_are_looked_at_however_far_they_are() -> None:
    certificate = certify_crontab("* * * * *", count=1)
    assert certificate.rule is DifferenceRule.REPEATED_HOUR
    assert certificate.first_difference == Difference(None, AUTUMN)
    assert certificate.evaluated_until > AUTUMN + timedelta(hours=1)


@pytest.mark.parametrize("minutes", range(-90, 130, 10))
@pytest.mark.parametrize("text", ["*/20 * * * *", "30 2 * * *", "0,40 1,2 * * *"])
def test_where_a_comparison_begins_does_not_make_a_difference(text: str, minutes: int) -> None:
    """Also in the hour that is skipped or repeated, where a Beat that starts just then does what no other does."""
    for change in (SPRING, AUTUMN):
        start = change + minutes * MINUTE
        certificate = certify_crontab(text, at=start)
        whole = certify_crontab(text, at=change - timedelta(hours=2))
        assert certificate.is_explained
        if whole.first_difference and all(one > start for one in whole.first_difference if one):
            assert certificate.first_difference == whole.first_difference


@pytest.mark.parametrize("ours", ["1 9 * * *", "0 10 * * *", "0 9 * * mon-fri", "0 9,21 * * *"])
def test_a_difference_without_a_known_rule_has_none(ours: str) -> None:
    certificate = certify(as_beat_holds("0 9 * * *"), Cadence("crontab", ours, NEW_YORK, "celery"), made_at=WINTER)
    assert (certificate.is_equal, certificate.is_explained, certificate.rule) == (False, False, None)
    assert certificate.first_difference is not None


def test_a_difference_without_a_rule_is_shown_before_an_earlier_one_with_a_rule() -> None:
    cadence = Cadence("crontab", "30 2 * * *", NEW_YORK, "celery")
    other_from_april = as_beat_holds("30 2 * 1-6 *")
    certificate = certify(other_from_april, cadence, made_at=SPRING - timedelta(hours=8), count=200)
    assert certificate.rule is None
    assert certificate.first_difference is not None
    assert certificate.first_difference.ours == datetime(2024, 7, 1, 6, 30, tzinfo=UTC)


def test_a_rule_is_not_claimed_for_minutes_that_a_clock_change_does_not_touch() -> None:
    certificate = certify(
        as_beat_holds("0 2 * * *"), Cadence("crontab", "30 3 * * *", NEW_YORK, "celery"), made_at=WINTER
    )
    assert certificate.rule is None
    wrong = Difference(SPRING + 30 * MINUTE, None)
    nine = Cadence("crontab", "0 9 * * *", NEW_YORK, "celery")
    assert explain(wrong, as_beat_holds("0 9 * * *"), nine, WINTER) is None
    assert explain(Difference(None, AUTUMN), as_beat_holds("0 1 * * *"), nine, WINTER) is None
    assert explain(Difference(AUTUMN, None), as_beat_holds("0 * * * *"), nine, WINTER) is None


def test_both_days_restricted_in_the_unix_dialect_is_named() -> None:
    cadence = Cadence("crontab", "0 0 13 * 5", "UTC", "unix")
    certificate = certify(as_beat_holds("0 0 13 * 5", "UTC"), cadence, made_at=WINTER)
    assert certificate.rule is DifferenceRule.EITHER_DAY
    assert certificate.first_difference == Difference(None, datetime(2024, 2, 2, tzinfo=UTC))


def test_a_beat_that_sends_in_a_repeated_hour_sends_a_burst_that_is_named() -> None:
    beat, cadence = as_beat_holds("*/15 * * * *"), Cadence("crontab", "*/15 * * * *", NEW_YORK, "celery")
    start = AUTUMN + 10 * MINUTE
    burst = beat_occurrences(beat, after=start, count=3)
    assert {explain(Difference(one, None), beat, cadence, start) for one in burst} == {
        DifferenceRule.REPEATED_HOUR_BURST
    }


@pytest.mark.parametrize(
    "times",
    [
        BeatInterval(every=7, period="seconds"),
        BeatInterval(every=1, period="days"),
        BeatInterval(every=1_500_000, period="microseconds"),
    ],
)
def test_an_interval_is_equal_from_beats_last_send_on(times: BeatInterval) -> None:
    last_send = datetime(2024, 3, 9, 12, 0, 0, 123_456, tzinfo=UTC)
    cadence = Cadence("interval", interval_text(times), "UTC")
    certificate = certify(BeatSchedule(times=times), cadence, made_at=WINTER, after=last_send, count=20)
    assert (certificate.is_equal, certificate.compared, certificate.made_at) == (True, 20, WINTER)


@pytest.mark.parametrize("event", ["dawn_astronomical", "sunrise", "solar_noon", "sunset", "dusk_nautical"])
def test_the_sun_is_equal_within_two_seconds(event: str) -> None:
    times = BeatSolar(event=event, latitude=Decimal("52.520000"), longitude=Decimal("13.405000"))
    cadence = Cadence("solar", solar_text(times), "UTC")
    certificate = certify(BeatSchedule(times=times), cadence, made_at=WINTER)
    assert (certificate.is_equal, certificate.compared) == (True, 50)


def test_another_place_is_not_equal() -> None:
    times = BeatSolar(event="sunset", latitude=Decimal("52.520000"), longitude=Decimal("13.405000"))
    certificate = certify(BeatSchedule(times=times), Cadence("solar", "sunset 52.52 13.5", "UTC"), made_at=WINTER)
    assert (certificate.is_equal, certificate.rule) == (False, None)


@pytest.mark.parametrize(
    ("event", "latitude", "longitude", "at"),
    [
        ("sunrise", "71.100000", "-169.790000", datetime(2024, 7, 28, tzinfo=UTC)),
        ("sunset", "89.383304", "-152.431952", WINTER),
    ],
)
def test_a_difference_where_the_sun_grazes_is_named(event: str, latitude: str, longitude: str, at: datetime) -> None:
    times = BeatSolar(event=event, latitude=Decimal(latitude), longitude=Decimal(longitude))
    certificate = certify(BeatSchedule(times=times), Cadence("solar", solar_text(times), "UTC"), made_at=at)
    assert certificate.rule is DifferenceRule.GRAZING_SUN


def test_a_day_of_the_sun_that_is_missing_amid_its_season_is_not_explained() -> None:
    times = BeatSolar(event="sunset", latitude=Decimal("69.650000"), longitude=Decimal("18.950000"))
    beat, cadence = BeatSchedule(times=times), Cadence("solar", solar_text(times), "UTC")
    found = beat_occurrences(beat, after=datetime(2024, 7, 1, tzinfo=UTC), count=10)
    assert explain(Difference(found[0], None), beat, cadence, WINTER) is DifferenceRule.GRAZING_SUN
    assert explain(Difference(found[5], None), beat, cadence, WINTER) is None
    assert explain(Difference(found[5], found[5] + 3 * MINUTE), beat, cadence, WINTER) is None


def test_a_clocked_time_is_equal_while_it_is_ahead_and_named_when_it_has_passed() -> None:
    times = BeatClocked(clocked_time=datetime(2024, 5, 1, 10, 0, 0, 500_000, tzinfo=UTC))
    beat, cadence = BeatSchedule(times=times), Cadence("clocked", clocked_text(times), "UTC")
    ahead = certify(beat, cadence, made_at=WINTER)
    assert (ahead.is_equal, ahead.compared, ahead.evaluated_until) == (True, 1, times.clocked_time)
    passed = certify(beat, cadence, made_at=times.clocked_time)
    assert passed.rule is DifferenceRule.PASSED_CLOCKED
    assert passed.first_difference is not None
    assert passed.first_difference.ours is None


@pytest.mark.parametrize("text", ["0 9 * * *", "30 2 * * *", "0 * * * *"])
def test_a_certificate_survives_json(text: str) -> None:
    certificate = certify_crontab(text)
    assert Certificate.from_json(json.loads(json.dumps(certificate.as_json()))) == certificate


def test_json_of_something_else_is_no_certificate() -> None:
    written: dict[str, Any] = certify_crontab("0 * * * *").as_json()
    with pytest.raises(KeyError):
        Certificate.from_json({"compared": 1})
    with pytest.raises(ValueError, match="no_such_rule"):
        Certificate.from_json(written | {"rule": "no_such_rule"})


def test_a_schedule_that_means_nothing_gets_no_certificate() -> None:
    with pytest.raises(InvalidInput, match="expression"):
        certify(as_beat_holds("0 9 * * *"), Cadence("crontab", "61 * * * *", NEW_YORK, "celery"), made_at=WINTER)
    with pytest.raises(InvalidInput, match="after: expected a datetime with a time zone"):
        certify_crontab("0 9 * * *", at=datetime(2024, 1, 1))


def test_each_rule_has_a_sentence_and_a_name_that_is_stored() -> None:
    assert all(rule.sentence.endswith(".") for rule in DifferenceRule)
    assert {rule.value for rule in DifferenceRule} == {
        "repeated_hour", "repeated_hour_burst", "spring_gap", "either_day", "passed_clocked", "grazing_sun",
    }  # fmt: skip
