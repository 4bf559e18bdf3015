"""Schedules in words."""

from __future__ import annotations

import pytest

from scheduler.errors import InvalidInput
from scheduler.recurrence import describe, description


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", "At 02:30, Europe/Berlin"),
        ("*/5 * * * *", "Every 5 minutes, Europe/Berlin"),
        ("0 9 * * Mon-Fri", "At 09:00, Monday through Friday, Europe/Berlin"),
        ("@monthly", "At 00:00, on day 1 of the month, Europe/Berlin"),
        # told misleadingly by the library, so not told
        ("0 22-4 * * *", "0 22-4 * * *, Europe/Berlin"),
        ("*/7 * * * *", "*/7 * * * *, Europe/Berlin"),
        ("0 0 13 * 5", "0 0 13 * 5, Europe/Berlin"),
        ("0 0 * * L5", "0 0 * * l5, Europe/Berlin"),
    ],
)
def test_a_crontab_is_told_in_words_where_the_words_are_right(expression: str, expected: str) -> None:
    assert describe(kind="crontab", expression=expression, timezone="Europe/Berlin") == expected


def test_without_the_library_the_expression_describes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "find_spec", lambda name: None)
    assert describe(kind="crontab", expression="30 2 * * *", timezone="UTC") == "30 2 * * *, UTC"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("PT1S", "Every 1 second"),
        ("PT90M", "Every 1 hour 30 minutes"),
        ("P8DT0.5S", "Every 1 week 1 day 0.5 seconds"),
    ],
)
def test_an_interval_is_told_in_its_largest_units(expression: str, expected: str) -> None:
    assert describe(kind="interval", expression=expression, timezone="UTC") == expected


def test_a_bad_schedule_is_not_described() -> None:
    with pytest.raises(InvalidInput, match="expression: expected"):
        describe(kind="crontab", expression="61 * * * *", timezone="UTC")
