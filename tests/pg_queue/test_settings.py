"""`PG_QUEUE` is validated once, and wrong values are named."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from pg_queue.checks import check_queue_settings
from pg_queue.errors import Configuration
from pg_queue.settings import parse
from pg_queue.storage import store

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


@pytest.mark.parametrize(
    ("fairness", "said"),
    [
        ({"WEIGTHS": {}}, r"'FAIRNESS'\]: expected keys among DEFAULT_WEIGHT, .*got: 'WEIGTHS'"),
        ({"WEIGHTS": 3}, r"'FAIRNESS'\]\['WEIGHTS'\]: expected a dictionary by organization, got: 3"),
        ({"WEIGHTS": {"acme": 0}}, r"'WEIGHTS'\]\['acme'\]: expected a number above 0, at most 1000000, got: 0"),
        ({"WEIGHTS": {"acme": NAN}}, r"'acme'\]: expected a number above 0, .*got: nan"),
        ({"WEIGHTS": {"acme": True}}, r"'acme'\]: expected a number above 0, .*got: True"),
        ({"WEIGHTS": {7: 1}}, r"expected names of organizations as keys, got: 7"),
        ({"DEFAULT_WEIGHT": "1"}, r"'DEFAULT_WEIGHT'\]: expected a number above 0, .*got: '1'"),
        ({"MAX_RUNNING": 0}, r"'MAX_RUNNING'\]: expected a whole number above 0, .*got: 0"),
        ({"MAX_RUNNING": 1.5}, r"'MAX_RUNNING'\]: expected a dictionary by organization, got: 1.5"),
        ({"MAX_RUNNING": {"acme": None}}, r"'acme'\]: expected a whole number above 0, .*got: None"),
    ],
)
def test_wrong_fairness_is_refused_by_key(fairness: dict[str, Any], said: str) -> None:
    with pytest.raises(Configuration, match=said):
        parse({"FAIRNESS": fairness})


@pytest.mark.parametrize(
    ("stores", "said"),
    [
        ({}, r"'STORES'.*an entry 'default'"),
        ({"default": 1}, r"'STORES'\]\['default'\]: expected a dictionary, got: 1"),
        ({"default": {"BAKEND": "redis"}}, r"'default'\]: expected keys among BACKEND, .*got: 'BAKEND'"),
        ({"default": {"URL": 1}}, r"'default'\]\['URL'\]: expected a text, got: 1"),
        ({"default": {"OPTIONS": []}}, r"'OPTIONS'\]: expected a dictionary, got: \[\]"),
        ({"default": {"NAMESPACE": "a b"}}, r"'NAMESPACE'\]: expected 0 to 64 letters.*got: 'a b'"),
    ],
)
def test_a_wrong_store_is_refused_by_alias_and_key(stores: dict[str, Any], said: str) -> None:
    with pytest.raises(Configuration, match=said):
        parse({"STORES": stores})


def test_stores_are_chosen_by_alias(settings: Any) -> None:
    settings.PG_QUEUE = {"STORES": {"default": {}, "other": {"BACKEND": "pg_queue.storage.postgres.PostgresStore"}}}
    assert [type(store(alias)).__name__ for alias in ("default", "other")] == ["PostgresStore", "PostgresStore"]
    assert store("other") is store("other")
    assert store("other") is not store()
    with pytest.raises(Configuration, match="expected an alias among default, other, got: 'third'"):
        store("third")


def test_a_backend_that_is_nowhere_is_refused(settings: Any) -> None:
    settings.PG_QUEUE = {"STORES": {"default": {"BACKEND": "nowhere.Store"}}}
    with pytest.raises(Configuration, match=r"'default'\]\['BACKEND'\]: expected one of .*got: 'nowhere.Store'"):
        store()


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


@pytest.mark.parametrize(
    ("mode", "ids"), [(None, ["pg_queue.E005"]), ("deferred", ["pg_queue.E005"]), ("immediate", [])]
)
def test_a_file_of_sqlite_whose_transactions_begin_by_reading_is_refused(
    settings: Any, monkeypatch: pytest.MonkeyPatch, mode: str | None, ids: list[str]
) -> None:
    from django.db import connections

    file = {"ENGINE": "django.db.backends.sqlite3", "NAME": "/nowhere", "OPTIONS": {"transaction_mode": mode}}
    monkeypatch.setitem(connections.settings, "file", {**connections["default"].settings_dict, **file})
    settings.PG_QUEUE = {"DATABASE": "file"}
    assert [error.id for error in check_queue_settings()] == ids
    del connections["file"]


def test_an_old_sqlite_is_refused(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.PG_QUEUE = {"STORES": {"default": {"BACKEND": "sqlite"}}}
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.37.2")
    with pytest.raises(Configuration, match=r"'DATABASE'\]: expected SQLite 3\.38\.0 or later, got: 3\.37\.2"):
        store()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"BACKEND": "rediss"}, "'BACKEND'"),
        ({"BACKEND": "redis", "URL": "127.0.0.1"}, "'URL'"),
        ({"BACKEND": "redis", "URL": "redis://127.0.0.1:1", "OPTIONS": {"PREFIXES": "x"}}, "'PREFIXES'"),
        ({"BACKEND": "redis", "URL": "redis://127.0.0.1:1"}, None),
    ],
)
def test_a_store_that_cannot_be_made_is_told_and_stops_no_process_that_does_not_use_it(
    settings: Any, place: dict[str, Any], said: str | None
) -> None:
    settings.PG_QUEUE = {"STORES": {"default": {}, "fast": place}}
    found = check_queue_settings()
    assert [(message.id, message.is_serious()) for message in found] == (
        [] if said is None else [("pg_queue.W007", False)]
    )
    assert said is None or said in found[0].msg


def test_an_experimental_store_is_told(settings: Any) -> None:
    settings.PG_QUEUE = {"STORES": {"default": {}, "m": {"BACKEND": "mongodb", "URL": "mongodb://127.0.0.1:1/q"}}}
    (found,) = check_queue_settings()
    assert (found.id, found.is_serious()) == ("pg_queue.W008", False)
    assert "'m'" in found.msg
    assert "docs/howto/mongodb.md" in str(found.hint)
