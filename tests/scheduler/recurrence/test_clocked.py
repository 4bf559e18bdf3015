"""Clocked schedules: one instant, with its offset, in any ISO 8601 spelling that people use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.errors import InvalidInput
from scheduler.recurrence import Cadence, count_between, describe, evaluate, next_occurrences, normalise, validate

AT = datetime(2026, 12, 1, 10, tzinfo=UTC)
CLOCKED = Cadence("clocked", "2026-12-01T10:00:00Z", "UTC")
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("2026-12-01T10:00:00Z", "2026-12-01T10:00:00Z"),
        (" 2026-12-01t10:00z ", "2026-12-01T10:00:00Z"),
        ("2026-12-01 11:00:00+01:00", "2026-12-01T10:00:00Z"),
        ("2026-12-01T11:00+01", "2026-12-01T10:00:00Z"),
        ("2026-12-01T04:30:00-0530", "2026-12-01T10:00:00Z"),
        ("2026-12-01T00:30:00+05:45", "2026-11-30T18:45:00Z"),
        ("2026-12-01T10:00:00.5Z", "2026-12-01T10:00:00.500000Z"),
        ("2026-12-01T10:00:00,000001Z", "2026-12-01T10:00:00.000001Z"),
        ("2026-12-01T10:00:00.000Z", "2026-12-01T10:00:00Z"),
    ],
)
def test_an_instant_is_stored_in_utc_in_one_spelling(written: str, stored: str) -> None:
    assert normalise("clocked", written, "unix") == stored
    assert normalise("clocked", stored, "unix") == stored
    for spelling in (written, stored):
        found = next_occurrences(
            kind="clocked", expression=spelling, timezone="Asia/Tokyo", after=datetime(2026, 1, 1, tzinfo=UTC), count=5
        )
        assert found == [datetime.fromisoformat(stored)]
        assert found[0].tzinfo is UTC


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("2026-12-01T10:00:00", "its offset from UTC: add 'Z' for UTC, or an offset such as '+01:00'"),
        ("2026-12-01 10:00", "its offset from UTC: add 'Z' for UTC, or an offset such as '+01:00'"),
        ("2026-12-01", "an ISO 8601 instant with its offset"),
        ("2026-02-30T10:00Z", "an ISO 8601 instant with its offset"),
        ("2026-12-01T25:00Z", "an ISO 8601 instant with its offset"),
        ("2026-12-01T10:00:00+24:00", "an ISO 8601 instant with its offset"),
        ("2026-12-01T10:00:00.1234567Z", "at most six digits after the second"),
        ("20261201T100000Z", "an ISO 8601 instant with its offset"),
        ("1899-12-31T23:59:59Z", "between the years 1900 and 2999"),
        ("2999-12-31T23:30:00-01:00", "between the years 1900 and 2999"),
        ("0001-01-01T00:00+14:00", "between the years 1900 and 2999"),
        ("0000-01-01T00:00Z", "an ISO 8601 instant with its offset"),
        ("٢٠٢٦-12-01T10:00Z", "an ISO 8601 instant with its offset"),
        ("tomorrow", "an ISO 8601 instant with its offset"),
        ("", "an ISO 8601 instant with its offset"),
        (AT, "an ISO 8601 instant with its offset"),
        ("2026-12-01T10:00:00Z" + " " * 1000, "at most 1000 characters"),
    ],
)
def test_a_bad_instant_is_refused_with_what_was_expected(expression: Any, expected: str) -> None:
    for refuse in (
        lambda: normalise("clocked", expression, "unix"),
        lambda: validate(kind="clocked", expression=expression, timezone="UTC"),
    ):
        with pytest.raises(InvalidInput) as caught:
            refuse()
        assert caught.value.field == "expression"
        assert expected in caught.value.expected


@settings(derandomize=True, deadline=None, database=None)
@given(text=st.text("0123456789-:T Z+.", max_size=30))
def test_no_text_raises_anything_but_invalid_input(text: str) -> None:
    try:
        validate(kind="clocked", expression=text, timezone="UTC")
    except InvalidInput as error:
        assert error.field == "expression"  # noqa: PT017


def test_it_occurs_once() -> None:
    ahead, due, past = (evaluate(CLOCKED, at) for at in (AT - TICK, AT, AT + timedelta(days=1)))
    assert (ahead.before_latest, ahead.latest, ahead.next) == (None, None, AT)
    assert (due.before_latest, due.latest, due.next) == (None, AT, None)
    assert (past.before_latest, past.latest, past.next) == (None, AT, None)


def test_its_microseconds_count() -> None:
    cadence = Cadence("clocked", "2026-12-01T10:00:00.000007Z", "UTC")
    at = AT + 7 * TICK
    assert evaluate(cadence, at - TICK).next == at
    assert evaluate(cadence, at).latest == at
    assert count_between(cadence, at, at + TICK, 1) == 1
    assert count_between(cadence, at - TICK, at, 1) == 0
    assert count_between(cadence, at, at + TICK, 0) is None


def test_it_is_told_as_a_date() -> None:
    told = describe(kind="clocked", expression="2026-12-01T11:00:00+01:00", timezone="Europe/Berlin")
    assert told == "Once, at 2026-12-01 10:00:00 UTC"
