"""What each dialect reads: against croniter's own stepping, Celery's own parser, and real schedules."""

from __future__ import annotations

import json
from calendar import isleap
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from celery.schedules import ParseException, crontab, crontab_parser
from croniter import croniter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.errors import InvalidInput
from scheduler.recurrence import celery_grammar, evaluate, next_occurrences, normalise, validate
from scheduler.recurrence.cadence import Cadence
from tests.scheduler.recurrence.strategies import Drawn, expressions

REAL_SCHEDULES = Path(__file__).parents[4] / "shared" / "data" / "beat_schedules.jsonl"
CELERY_FIELDS = [("minutes", 60, 0), ("hours", 24, 0), ("month_days", 31, 1), ("months", 12, 1), ("weekdays", 7, 0)]
CELERY_REFUSALS = (ParseException, ValueError)
bounded = settings(derandomize=True, deadline=None, database=None)

instants = st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


def upcoming(expression: str, after: datetime, count: int, dialect: str = "unix") -> list[datetime]:
    return next_occurrences(
        kind="crontab", expression=expression, timezone="UTC", dialect=dialect, after=after, count=count
    )


def step_with_croniter(expression: str, after: datetime, *, day_or: bool = True) -> list[datetime]:
    steps = croniter(expression, after.replace(tzinfo=None), day_or=day_or, implement_cron_bug=True)
    return [one.replace(tzinfo=UTC) for one in islice(steps.all_next(datetime), 4)]


@settings(bounded, max_examples=250)
@given(drawn=expressions(), after=instants)
def test_occurrences_without_clock_changes_are_croniters(drawn: Drawn, after: datetime) -> None:
    try:
        validate(kind="crontab", expression=drawn.expression, timezone="UTC", dialect=drawn.dialect)
    except InvalidInput as error:
        assert error.expected == "an expression that has an occurrence"  # noqa: PT017
        return
    steps = step_with_croniter(drawn.expression, after, day_or=drawn.dialect == "unix")
    assert upcoming(drawn.expression, after, 4, drawn.dialect) == steps


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 l * *", "0 0 15,L * *", "0 0 25-L * *", "0 12 * * L5", "0 12 * * mon#1", "30 6 * * 2#2,4#4",
        "0 0 * * 7", "0 0 * * 5-7", "0 0 * * sat-sun", "0 0 * nov-feb *", "0 22-4 * * *", "0 22-4/2 * * *",
        "5/15 * * * *", "59/15 * * * *", "0 0 ? * mon", "0 0 1 * ?", "0 0 */2 * 1", "0 0 1 * */2", "0 0 1-31 * 1",
        "0 0 13 * fri", "0 0 29 2 *", "0 0 * feb mon#5", "@weekly", "@hourly",
    ],
)  # fmt: skip
def test_forms_of_the_unix_dialect_mean_what_croniter_says(expression: str) -> None:
    after = datetime(2024, 1, 20, 13, 7, tzinfo=UTC)
    assert upcoming(expression, after, 4) == step_with_croniter(expression, after)


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("0 9 * * monday", "0 9 * * mon"),
        ("0 9 * * Monday-Friday", "0 9 * * 1-5"),
        ("0 9 1 january,July *", "0 9 1 1,7 *"),
        ("0 9 * * tuesday#2", "0 9 * * 2#2"),
        ("0 9-9 * * *", "0 9 * * *"),
        ("7-7/5 9 * * sun-sun", "7 9 * * 0"),
        ("0 0 * * 0-7", "0 0 * * *"),
    ],
)
def test_the_unix_dialect_knows_full_names_and_ranges_of_one_value(full: str, short: str) -> None:
    after = datetime(2024, 1, 20, tzinfo=UTC)
    assert upcoming(full, after, 20) == upcoming(short, after, 20)


def test_restricted_days_mean_either_in_unix_and_both_in_celery() -> None:
    after = datetime(2024, 9, 1, tzinfo=UTC)
    either, both = (upcoming("0 0 13 * 5", after, 6, dialect) for dialect in ("unix", "celery"))
    assert [one.strftime("%a %d %b") for one in either] == [
        "Fri 06 Sep", "Fri 13 Sep", "Fri 20 Sep", "Fri 27 Sep", "Fri 04 Oct", "Fri 11 Oct",
    ]  # fmt: skip
    assert all(one.day == 13 and one.isoweekday() == 5 for one in both)
    assert both[0] == datetime(2024, 9, 13, tzinfo=UTC)


def test_a_day_field_that_begins_with_a_star_makes_both_match_in_unix() -> None:
    found = upcoming("0 0 */2 * mon", datetime(2024, 1, 1, tzinfo=UTC), 50)
    assert all(one.isoweekday() == 1 and one.day % 2 == 1 for one in found)


celery_text = st.one_of(
    st.text("0123456789*/-, monfriJul+_", max_size=8),
    st.lists(
        st.one_of(
            st.integers(0, 70).map(str),
            st.tuples(st.integers(0, 62), st.integers(0, 62)).map("{0[0]}-{0[1]}".format),
            st.tuples(st.integers(0, 32), st.integers(0, 32), st.integers(0, 9)).map("{0[0]}-{0[1]}/{0[2]}".format),
            st.integers(0, 70).map("*/{}".format),
            st.sampled_from(
                ["*", "mon", "Friday", "fri-mon", "jan", "nov-february", "sunflower", "", "59/15", "1-5/2-3"]
            ),
        ),
        min_size=1,
        max_size=3,
    ).map(",".join),
)


@settings(bounded, max_examples=1500)
@given(text=celery_text, position=st.integers(0, 4))
@example(text="7", position=4)
@example(text="22-4/3", position=1)
@example(text="*/0", position=0)
@example(text="5-1", position=4)
@example(text="-1", position=0)
@example(text="mon", position=0)
@example(text="mar", position=4)
@example(text="1_0", position=0)
def test_the_celery_dialect_reads_every_field_as_celery_does(text: str, position: int) -> None:
    text = "".join(text.split())
    name, size, low = CELERY_FIELDS[position]
    texts = ["*"] * 5
    texts[position] = text
    expression = " ".join(texts) if text else "* * * *"
    try:
        expected = crontab_parser(size, low).parse(text)
    except CELERY_REFUSALS:
        with pytest.raises(InvalidInput):
            celery_grammar.parse(normalise("crontab", expression, "celery"))
        return
    pattern = celery_grammar.parse(normalise("crontab", expression, "celery"))
    mask = getattr(pattern, name, None) or getattr(pattern.days, name)
    assert {value for value in range(64) if mask >> value & 1} == expected


def load_real_crontabs() -> list[tuple[list[str], str]]:
    rows = [json.loads(line) for line in REAL_SCHEDULES.read_text().splitlines()]
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    return [([str(row["crontab"][one]) for one in names], row["timezone"] or "UTC") for row in rows if row["crontab"]]


@pytest.mark.skipif(not REAL_SCHEDULES.exists(), reason="absent: shared/data/beat_schedules.jsonl")
def test_every_real_beat_crontab_is_read_or_refused_as_celery_does() -> None:
    crontabs = load_real_crontabs()
    assert len(crontabs) > 200
    for texts, zone in crontabs:
        expression = " ".join(texts)
        assert is_accepted(expression, zone) == is_accepted_by_celery(texts), expression


def is_accepted(expression: str, zone: str) -> bool:
    try:
        validate(kind="crontab", expression=expression, timezone=zone, dialect="celery")
    except InvalidInput:
        return False
    return True


def is_accepted_by_celery(texts: list[str]) -> bool:
    minute, hour, month_day, month, weekday = texts
    try:
        crontab(minute, hour, weekday, month_day, month)
    except CELERY_REFUSALS:
        return False
    return True


def test_impossible_dates_are_refused_by_both_dialects_and_celery() -> None:
    assert not is_accepted("0 0 31 2,4,6 *", "UTC")
    assert not is_accepted_by_celery(["0", "0", "31", "2,4,6", "*"])


def test_a_leap_day_on_a_weekday_is_found_across_a_century_without_one() -> None:
    found = upcoming("0 0 29 2 1", datetime(2072, 3, 1, tzinfo=UTC), 1, "celery")
    assert found == [datetime(2112, 2, 29, tzinfo=UTC)]
    assert evaluate(Cadence("crontab", "0 0 29 2 1", "UTC", "celery"), found[0] - timedelta(days=1)).latest == datetime(
        2072, 2, 29, tzinfo=UTC
    )


@pytest.mark.parametrize("weekday", range(7))
def test_a_leap_day_on_any_weekday_is_possible(weekday: int) -> None:
    validate(kind="crontab", expression=f"0 0 29 2 {weekday}", timezone="UTC", dialect="celery")
    found = upcoming(f"0 0 29 2 {weekday}", datetime(2024, 3, 1, tzinfo=UTC), 3, "celery")
    assert len(found) == 3
    assert all(isleap(one.year) and one.isoweekday() % 7 == weekday for one in found)
