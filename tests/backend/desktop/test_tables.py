"""How a new file gets its tables: by the prepared script, where it is what the migrations make."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections

from backend.desktop import tables
from backend.desktop.prepared import SCRIPT, script_of
from pg_queue.sqlite import add_functions

ALIAS = "desktop_file"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any) -> Iterator[Path]:
    """A file that is not there yet, as the one of desktop mode."""
    path = tmp_path / "desktop.sqlite3"
    given = {"default": {}, ALIAS: {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}}
    connections.settings[ALIAS] = connections.configure_settings(given)[ALIAS]
    monkeypatch.setattr(tables, "connection", connections[ALIAS])
    with django_db_blocker.unblock():
        yield path
        connections[ALIAS].close()
    del connections[ALIAS], connections.settings[ALIAS]


@pytest.fixture
def migrated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that were called instead of the script."""
    called: list[str] = []
    monkeypatch.setattr(tables, "call_command", lambda name, **_: called.append(name))
    return called


def test_the_prepared_script_makes_what_the_migrations_make(sqlite_template: Path) -> None:
    assert SCRIPT.read_text() == script_of(sqlite_template), "run `make desktop-tables`, and commit what it writes"


def test_a_new_file_is_made_by_the_script_and_once(file: Path, migrated: list[str]) -> None:
    assert tables.make_tables()
    assert not tables.make_tables()
    assert migrated == []
    with sqlite3.connect(file) as session:
        add_functions(session)
        assert session.execute("SELECT name FROM pipelines_organization").fetchall() == [("Default",)]
        ((applied,),) = session.execute("SELECT min(applied) FROM django_migrations").fetchall()
        assert datetime.now(UTC) - datetime.fromisoformat(f"{applied}+00:00") < timedelta(minutes=1)
        assert session.execute("PRAGMA foreign_key_check").fetchall() == []


def test_where_other_migrations_are_installed_they_are_run(
    file: Path, migrated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tables._on_disk()
    monkeypatch.setattr(tables, "_on_disk", lambda: {*installed, ("auth", "0099_of_another_django")})
    assert tables.make_tables()
    assert migrated == ["migrate"]
    assert not file.exists() or sqlite3.connect(file).execute("SELECT * FROM sqlite_master").fetchall() == []


def test_a_file_that_has_tables_is_migrated(file: Path, migrated: list[str]) -> None:
    with sqlite3.connect(file) as session:
        session.execute("CREATE TABLE somebodys (id integer)")
    assert tables.make_tables()
    assert migrated == ["migrate"]


def test_a_script_that_is_cut_off_leaves_nothing(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt.sql"
    spoilt.write_text(SCRIPT.read_text().replace("COMMIT;", "INSERT INTO nowhere VALUES (1);\nCOMMIT;"))
    monkeypatch.setattr(tables, "SCRIPT", spoilt)
    with pytest.raises((OperationalError, sqlite3.OperationalError)):
        tables.make_tables()
    connection: Any = tables.connection
    connection.close()
    assert sqlite3.connect(file).execute("SELECT * FROM sqlite_master").fetchall() == []
