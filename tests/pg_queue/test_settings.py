"""`PG_QUEUE` is validated once, and wrong values are named."""

from __future__ import annotations

from typing import Any

import pytest

from pg_queue.checks import check_queue_settings
from pg_queue.errors import Configuration
from pg_queue.settings import parse

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"LEASE": 5}, "got: 'LEASE'"),
        ({"lease_seconds": 5}, "got: 'lease_seconds'"),
        ({"LEASE_SECONDS": "60"}, r"PG_QUEUE\['LEASE_SECONDS'\]: expected float, got: '60'"),
        ({"LEASE_SECONDS": 10, "RENEW_SECONDS": 6}, "at most half of LEASE_SECONDS"),
        ({"LEASE_SECONDS": 30}, "at most half of LEASE_SECONDS"),
        ({"MAX_ATTEMPTS": 0}, "above 0"),
        ({"MAX_ATTEMPTS": True}, "expected int"),
        ({"POLL_SECONDS": -1}, "above 0"),
        ({"LEASE_SECONDS": NAN}, r"PG_QUEUE\['LEASE_SECONDS'\]: expected a number above 0, .*, got: nan"),
        ({"RENEW_SECONDS": NAN}, r"'RENEW_SECONDS'.*got: nan"),
        ({"LEASE_SECONDS": INFINITY}, r"'LEASE_SECONDS'.*got: inf"),
        ({"DRAIN_SECONDS": NAN}, r"'DRAIN_SECONDS'\]: expected a number, 0 or more, .*got: nan"),
        ({"TASK_TIME_LIMIT_SECONDS": INFINITY}, r"'TASK_TIME_LIMIT_SECONDS'.*got: inf"),
        ({"RESULT_TTL_SECONDS": 10**400}, r"'RESULT_TTL_SECONDS'.*at most 3162240000"),
        ({"REAP_BATCH": 2**31}, r"'REAP_BATCH'.*at most 2147483647"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(Configuration, match=said):
        parse(raw)


@pytest.mark.parametrize(
    ("raw", "check_id"),
    [({"UNHEARD": 1}, "pg_queue.E001"), ({"DATABASE": "nowhere"}, "pg_queue.E002")],
)
def test_system_checks_show_what_is_wrong(settings: Any, raw: dict[str, Any], check_id: str) -> None:
    settings.PG_QUEUE = raw
    assert [message.id for message in check_queue_settings()] == [check_id]


def test_a_database_that_is_neither_postgresql_nor_sqlite_is_refused(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    monkeypatch.setitem(
        connections.settings, "none", {**connections["default"].settings_dict, "ENGINE": "django.db.backends.dummy"}
    )
    settings.PG_QUEUE = {"DATABASE": "none"}
    (error,) = check_queue_settings()
    assert error.id == "pg_queue.E003"
    assert "got: 'none', whose engine is unknown" in error.msg
    del connections["none"]
