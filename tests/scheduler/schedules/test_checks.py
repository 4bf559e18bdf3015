"""What `manage.py check` says of a configuration."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import override_settings

from scheduler import beat, checks


def found(**databases: Any) -> list[tuple[str | None, str]]:
    """The scheduler's own messages."""
    messages = [message for message in run_checks(**databases) if str(message.id).startswith("scheduler.")]
    return [(message.id, message.msg) for message in messages]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"GRACE": 1}, "SCHEDULER: expected keys among"),
        ({"TICK_BATCH": 0}, "SCHEDULER['TICK_BATCH']: expected a positive int, at most 2147483647, got: 0"),
        ({"DEFAULT_FIRER": "cron"}, "SCHEDULER['DEFAULT_FIRER']: expected 'pg' or 'beat', got: 'cron'"),
        ({"LEDGER_RETENTION_DAYS": 1, "GRACE_SECONDS": 86400}, "longer than the catch-up window"),
    ],
)
def test_settings_that_are_wrong_are_an_error(setting: dict[str, Any], said: str) -> None:
    with override_settings(SCHEDULER=setting):
        ((code, message),) = found()
    assert code == "scheduler.E001"
    assert said in message


def test_a_database_that_is_neither_postgresql_nor_sqlite_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "mysql")
    codes = [message for code, message in found() if code == "scheduler.E002"]
    assert codes == ["DATABASES['default']: expected PostgreSQL or SQLite, where schedules are kept, got: 'mysql'"]


def test_an_alias_that_is_no_database_is_an_error() -> None:
    with override_settings(SCHEDULER={"DATABASE": "elsewhere"}):
        messages = checks.check_settings()
    assert [message.id for message in messages] == ["scheduler.E002"]
    assert "got: 'elsewhere'" in messages[0].msg


def test_another_alias_than_the_queues_is_an_error_even_of_the_same_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings, "ledger", connections.settings["default"])
    with override_settings(SCHEDULER={"DATABASE": "ledger"}):
        messages = checks.check_settings()
    assert [message.id for message in messages] == ["scheduler.E005"]
    assert "SCHEDULER['DATABASE']: expected 'default', the queue's own" in messages[0].msg


def test_a_command_refuses_another_alias_than_the_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings, "ledger", connections.settings["default"])
    with override_settings(SCHEDULER={"DATABASE": "ledger"}):
        for command in (["run_scheduler", "--once"], ["schedules", "list"]):
            with pytest.raises(CommandError, match=r"scheduler\.E005") as refused:
                call_command(*command)
            assert refused.value.returncode == 2


def test_a_default_store_outside_of_the_schedulers_database_is_an_error_and_stops_the_scheduler() -> None:
    stores = {"default": {"BACKEND": "redis", "URL": "redis://127.0.0.1:1/0"}}
    with override_settings(PG_QUEUE={"STORES": stores}):
        ((code, message),) = found()
        assert code == "scheduler.E007"
        assert "got: Redis at 127.0.0.1:1/0" in message
        with pytest.raises(CommandError, match=r"scheduler\.E007") as refused:
            call_command("run_scheduler", "--once")
        assert refused.value.returncode == 2


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
def test_beat_by_default_without_django_celery_beat_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(SCHEDULER={"DEFAULT_FIRER": "beat"}):
        assert found() == []
        monkeypatch.setattr(beat, "is_installed", lambda: False)
        assert [code for code, _ in found()] == ["scheduler.E003"]


@pytest.mark.postgresql("beside SQLite Celery Beat fires nothing")
@pytest.mark.django_db
def test_beats_table_without_its_guard_is_a_warning() -> None:
    assert found(databases=["default"]) == []
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION scheduler_guard_beat() CASCADE")
    ((code, message),) = found(databases=["default"])
    assert code == "scheduler.W004"
    assert "'scheduler_guard_beat' is missing" in message
    assert found() == []
