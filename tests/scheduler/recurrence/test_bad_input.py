"""Bad input is refused with the field, what was expected and what was got; nothing else escapes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.domain import ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.recurrence import Cadence, count_between, evaluate, next_occurrences, normalise, validate

GOOD: dict[str, Any] = {"kind": "crontab", "expression": "0 3 * * *", "timezone": "UTC", "dialect": "unix"}
AT = datetime(2024, 1, 1, tzinfo=UTC)

EXPRESSIONS = [
    ("0 0 30 2 *", "unix", "an expression that has an occurrence"),
    ("0 0 30 2 *", "celery", "an expression that has an occurrence"),
    ("0 0 31 4,6,9,11 *", "unix", "an expression that has an occurrence"),
    ("", "unix", "five fields, such as"),
    ("   ", "celery", "five fields, such as"),
    ("* * *", "unix", "not 3"),
    ("0 0 0 * * *", "unix", "no seconds and no years"),
    ("0 0 0 * * * 2024", "celery", "no seconds and no years"),
    ("60 * * * *", "unix", "minute as numbers 0-59"),
    ("* 24 * * *", "unix", "hour as numbers 0-23"),
    ("* * 0 * *", "unix", "day-of-month as numbers 1-31"),
    ("* * * 13 *", "unix", "month as numbers 1-12 or names (january or jan)"),
    ("* * * * 8", "unix", "day-of-week as numbers 0-7 or names (sunday or sun)"),
    ("* * * * caturday", "unix", "day-of-week as numbers 0-7"),
    ("mon * * * *", "unix", "minute as numbers 0-59"),
    ("*/0 * * * *", "unix", "minute as numbers 0-59"),
    ("-5 * * * *", "unix", "minute as numbers 0-59"),
    ("5, * * * *", "unix", "not 4"),
    ("1,,2 * * * *", "unix", "minute as numbers 0-59"),
    ("? * * * *", "unix", "minute as numbers 0-59"),
    ("H * * * *", "unix", "hashed 'H' and random 'R' values are not supported"),
    ("H(0-29)/10 * * * *", "unix", "hashed 'H' and random 'R' values are not supported"),
    ("R 3 * * *", "unix", "hashed 'H' and random 'R' values are not supported"),
    ("0 0 15W * *", "unix", "the nearest weekday, 'W', is not supported"),
    ("0 0 13 * 5#2", "unix", "'*' as day-of-month where day-of-week holds '#' or 'L'"),
    ("0 0 * * 1,5#2", "unix", "either plain days or days with '#' or 'L'"),
    ("0 0 * * 5#6", "unix", "day-of-week as numbers 0-7"),
    ("@reboot", "unix", "@reboot names none"),
    ("@fortnightly", "unix", "one of the macros @yearly, @annually"),
    ("0 0 * * 7", "celery", "day-of-week as Celery reads it: numbers 0-6 or names (sun), Sunday as 0"),
    ("59/15 * * * *", "celery", "minute as Celery reads it"),
    ("0 0 L * *", "celery", "day-of-month as Celery reads it"),
    ("*/0 * * * *", "celery", "minute as Celery reads it"),
    ("\x00 * * * *", "unix", "minute as numbers 0-59"),
    ("0 0 1 1 *" + " " * 1000, "unix", "at most 1000 characters"),
    (None, "unix", "five fields, such as"),
    (["0", "0", "*", "*", "*"], "unix", "five fields, such as"),
]


@pytest.mark.parametrize(("expression", "dialect", "expected"), EXPRESSIONS)
def test_a_bad_crontab_is_refused_with_what_was_expected(expression: Any, dialect: str, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(kind="crontab", expression=expression, timezone="UTC", dialect=dialect)
    assert caught.value.field == "expression"
    assert expected in caught.value.expected
    assert str(caught.value) == f"expression: expected {caught.value.expected}, got: {caught.value.got!r}"


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"kind": "lunar"}, "kind", "one of crontab, interval, clocked, solar"),
        ({"kind": None}, "kind", "one of crontab, interval, clocked, solar"),
        ({"dialect": "quartz"}, "dialect", "one of unix, celery"),
        ({"timezone": "Europe/Berlim"}, "timezone", "an IANA time zone name (did you mean Europe/Berlin"),
        ({"timezone": "europe/berlin"}, "timezone", "Europe/Berlin"),
        ({"timezone": "qqqqqqq"}, "timezone", 'an IANA time zone name such as "Europe/Berlin"'),
        ({"timezone": None}, "timezone", "the name of an IANA time zone, as text"),
        ({"timezone": 3600}, "timezone", "the name of an IANA time zone, as text"),
    ],
)  # fmt: skip
def test_a_bad_kind_dialect_or_zone_is_refused(change: dict[str, Any], field: str, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate(**(GOOD | change))
    assert caught.value.field == field
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    "name",
    [
        "", " ", ".", "..", "../../etc/passwd", "/etc/localtime", "Europe/../UTC", "Europe//Berlin", "Europe/",
        "America", "UTC\x00", "UTC\n", "\udc80", "Ü", "a" * 10_000, "localtime", "posixrules", "right/UTC", "posix/UTC",
        "tzdata.zi", "leapseconds", "zone1970.tab", "C:UTC", "UTC\\x", "EST5EDT,M3.2.0,M11.1.0", "+03:00",
    ],
)  # fmt: skip
def test_an_odd_zone_key_is_refused_and_nothing_else_is_raised(name: str) -> None:
    with pytest.raises(InvalidInput, match="timezone"):
        validate(**(GOOD | {"timezone": name}))


@pytest.mark.parametrize("count", [0, -1, 1001, True, 1.0, "5", None])
def test_a_bad_count_is_refused(count: Any) -> None:
    with pytest.raises(InvalidInput, match="count: expected a whole number from 1 to 1000, got: ") as caught:
        next_occurrences(**GOOD, after=AT, count=count)
    assert caught.value.field == "count"


@pytest.mark.parametrize("after", [datetime(2024, 1, 1), "2024-01-01", None])
@pytest.mark.parametrize("kind", [{}, {"kind": "interval", "expression": "PT5S"}])
def test_a_naive_datetime_is_refused(after: Any, kind: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="after: expected a datetime with a time zone") as caught:
        next_occurrences(**(GOOD | kind), after=after, count=1)
    assert caught.value.field == "after"


@pytest.mark.parametrize("after", [datetime.min, datetime.max, datetime(1899, 12, 30), datetime(3000, 1, 2)])
@pytest.mark.parametrize("hours", [-14, 0, 14])
def test_an_instant_outside_the_supported_years_is_refused(after: datetime, hours: int) -> None:
    aware = after.replace(tzinfo=timezone(timedelta(hours=hours)))
    with pytest.raises(InvalidInput, match="between the years 1900 and 2999"):
        next_occurrences(**(GOOD | {"expression": "* * * * *"}), after=aware, count=1)


def test_the_first_and_last_supported_instants_work() -> None:
    first, last = datetime(1900, 1, 1, tzinfo=UTC), datetime(2999, 12, 31, 23, 59, tzinfo=UTC)
    for zone in ("UTC", "Europe/Amsterdam", "Asia/Manila", "Africa/Monrovia"):
        for at in (first, last):
            assert evaluate(Cadence("crontab", "*/7 1,13 * * *", zone), at).next is not None
    assert next_occurrences(**(GOOD | {"expression": "0 0 29 2 *"}), after=last, count=20)


def test_evaluating_an_interval_or_a_naive_instant_is_refused() -> None:
    with pytest.raises(InvalidInput, match="kind: expected crontab"):
        evaluate(Cadence(ScheduleKind.INTERVAL, "PT5S", "UTC"), AT)
    with pytest.raises(InvalidInput, match="at: expected a datetime with a time zone"):
        evaluate(Cadence("crontab", "* * * * *", "UTC"), datetime(2024, 1, 1))
    with pytest.raises(InvalidInput, match="start: expected a datetime with a time zone"):
        count_between(Cadence("crontab", "* * * * *", "UTC"), datetime(2024, 1, 1), AT, 5)


def test_a_bad_row_is_refused_when_it_is_evaluated() -> None:
    for cadence, field in [
        (Cadence("crontab", "61 * * * *", "UTC"), "expression"),
        (Cadence("crontab", "* * * * *", "Mars/Olympus"), "timezone"),
        (Cadence("crontab", "* * * * *", "UTC", "quartz"), "dialect"),
    ]:
        with pytest.raises(InvalidInput) as caught:
            evaluate(cadence, AT)
        assert caught.value.field == field


def test_a_row_that_never_occurs_evaluates_to_nothing() -> None:
    found = evaluate(Cadence("crontab", "0 0 30 2 *", "UTC"), AT)
    assert (found.before_latest, found.latest, found.next) == (None, None, None)


@pytest.mark.parametrize("dialect", ["unix", "celery"])
@settings(derandomize=True, deadline=None, database=None, max_examples=600)
@given(
    text=st.one_of(
        st.text(max_size=30),
        st.lists(st.text("0123456789*/-,?#lLwWhHrR()@monjan ", max_size=6), min_size=5, max_size=5).map(" ".join),
    )
)
def test_no_text_raises_anything_but_invalid_input(dialect: str, text: str) -> None:
    try:
        validate(kind="crontab", expression=text, timezone="UTC", dialect=dialect)
    except InvalidInput as error:
        assert error.field == "expression"  # noqa: PT017
    else:
        assert len(next_occurrences(**(GOOD | {"expression": text, "dialect": dialect}), after=AT, count=2)) == 2


@settings(derandomize=True, deadline=None, database=None, max_examples=300)
@given(text=st.text(max_size=40))
def test_no_zone_text_raises_anything_but_invalid_input(text: str) -> None:
    try:
        validate(**(GOOD | {"timezone": text}))
    except InvalidInput as error:
        assert error.field == "timezone"  # noqa: PT017


@pytest.mark.parametrize(
    ("kind", "written", "stored"),
    [
        ("crontab", "  0, 15 ,30  *\t* * MON-fri \n", "0,15,30 * * * mon-fri"),
        ("crontab", " @Daily ", "@daily"),
        ("crontab", "0 0 * January Sunday", "0 0 * january sunday"),
        ("interval", " pt1h30m ", "PT1H30M"),
        ("interval", "PT1,5S", "PT1.5S"),
        ("interval", "PT90S", "PT90S"),
    ],
)
@pytest.mark.parametrize("dialect", ["unix", "celery"])
def test_an_expression_is_stored_in_one_spelling_that_is_stable(
    kind: str, written: str, stored: str, dialect: str
) -> None:
    assert normalise(kind, written, dialect) == stored
    assert normalise(kind, stored, dialect) == stored
    validate(kind=kind, expression=written, timezone="UTC", dialect=dialect)


@pytest.mark.parametrize(
    ("kind", "typed"), [("interval", "5 SECONDS"), ("interval", "P1M"), ("crontab", "0  0 30 Feb *")]
)
def test_a_refused_expression_is_named_as_it_was_typed(kind: str, typed: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        validate(kind=kind, expression=typed, timezone="UTC")
    assert refused.value.got == typed
