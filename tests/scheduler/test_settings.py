"""`SCHEDULER` is validated once, and wrong values are named."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.errors import InvalidInput
from scheduler.settings import SchedulerSettings, parse

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"GRACE": 1}, "got: 'GRACE'"),
        ({"WRITEBACK_SECONDS": NAN}, r"SCHEDULER\['WRITEBACK_SECONDS'\]: expected a positive float.*got: nan"),
        ({"WRITEBACK_SECONDS": INFINITY}, r"'WRITEBACK_SECONDS'.*got: inf"),
        ({"WRITEBACK_SECONDS": "1"}, r"'WRITEBACK_SECONDS'.*got: '1'"),
        ({"WRITEBACK_BATCH": NAN}, r"'WRITEBACK_BATCH'\]: expected a positive int.*got: nan"),
        ({"TICK_BATCH": True}, r"'TICK_BATCH'.*got: True"),
        ({"TICK_BATCH": 2**31}, r"'TICK_BATCH'.*at most 2147483647"),
        ({"GRACE_SECONDS": 0.5}, r"'GRACE_SECONDS'\]: expected a positive int"),
        ({"LEDGER_RETENTION_DAYS": 40_000}, r"'LEDGER_RETENTION_DAYS'.*at most 36500"),
        ({"LEDGER_RETENTION_DAYS": 1, "GRACE_SECONDS": 86400}, "longer than the catch-up window"),
        ({"DATABASE": 1}, r"'DATABASE'\]: expected a string"),
        ({"BEAT_MODE": "off"}, r"'BEAT_MODE'\]: expected 'observe' or 'gate'"),
        ({"DEFAULT_FIRER": "cron"}, r"'DEFAULT_FIRER'\]: expected 'pg' or 'beat'"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(raw)


def test_whole_numbers_are_durations_too() -> None:
    assert parse({"WRITEBACK_SECONDS": 2}) == SchedulerSettings(writeback_seconds=2)
