"""What every test can use: services by marker, real databases and processes by fixture."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models.signals import post_migrate
from django.test import TransactionTestCase

from backend.standalone.postgres import EmbeddedPostgres
from scheduler.beat import mirror
from tests import services
from tests.emptying import empty_after_commit
from tests.processes import (
    Manage,
    OwnPostgresFactory,
    ProcessDatabase,
    SqliteFile,
    copied_database,
    migrated_sqlite_file,
    template_database,
)

_numbers = itertools.count(1)


IS_SQLITE = os.environ.get("DATABASE_URL", "").startswith("sqlite:")
"""The run is on a file of SQLite: see tests/scheduler/test_on_sqlite.py."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose server is absent, naming it; fail it where all servers are required."""
    for marker in item.iter_markers("postgresql"):
        if IS_SQLITE:
            pytest.skip(f"PostgreSQL only: {marker.args[0]}")
    names = [name for marker in item.iter_markers("services") for name in marker.args]
    if unknown := set(names) - services.NAMES:
        raise pytest.UsageError(f"{item.nodeid}: unknown services {sorted(unknown)}, known: {sorted(services.NAMES)}")
    absent = [name for name in names if not services.is_present(name)]
    if absent and os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"REQUIRE_SERVICES=1, but absent: {', '.join(absent)}", pytrace=False)
    if absent:
        pytest.skip(f"absent: {', '.join(absent)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin the long tests first: one begun last would run on alone when the other workers have ended."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests recorded: to look at, not to fail by, since machines differ."""
    for report in terminalreporter.getreports("passed"):
        for name, figure in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid.partition('::')[2]}: {figure} {name}")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """On SQLite Django's own test database is a file, too: in memory, threads do not wait for each other's locks."""
    if IS_SQLITE:
        connection.settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("django") / "test.sqlite3")


def _make_default_organization(*, sender: Any, using: str, **_: Any) -> None:
    """What a migration wrote, once more after the flush at the end of a transactional test.

    The tests that need it come before those in one process; a worker of several may get them in another order.
    """
    if sender.label != "pipelines":
        return
    model = sender.get_model("Organization")
    if model._meta.db_table in connections[using].introspection.table_names():  # not where one app alone was migrated
        model.objects.using(using).get_or_create(slug="default", defaults={"name": "Default"})


TransactionTestCase._fixture_teardown = empty_after_commit  # type: ignore[attr-defined]
post_migrate.connect(_make_default_organization, dispatch_uid="tests.default_organization")


@pytest.fixture(autouse=True)
def _patient_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is no broken mirror."""
    monkeypatch.setattr(mirror, "WAIT_SECONDS", 30)


@pytest.fixture(scope="session")
def process_template() -> Iterator[str]:
    """The name of a migrated database on the run's server, made once, to copy from."""
    if IS_SQLITE:
        yield ""
        return
    with template_database(os.environ["DATABASE_URL"]) as name:
        yield name


@pytest.fixture
def process_database(process_template: str, request: pytest.FixtureRequest) -> Iterator[ProcessDatabase | SqliteFile]:
    """A fresh, migrated, empty database for real processes; its rows are committed, and it goes with the test."""
    if IS_SQLITE:
        yield request.getfixturevalue("sqlite_file")
        return
    with copied_database(os.environ["DATABASE_URL"], process_template, str(next(_numbers))) as database:
        yield database


@pytest.fixture
def manage(process_database: ProcessDatabase | SqliteFile) -> Iterator[Manage]:
    """Starts `manage.py` commands on `process_database`; no process outlives the test."""
    launcher = Manage(process_database.url)
    try:
        yield launcher
    finally:
        launcher.clean_up()


@pytest.fixture(scope="session")
def sqlite_template() -> Path:
    """A migrated file of SQLite, made once, to copy from."""
    return migrated_sqlite_file()


@pytest.fixture
def sqlite_file(sqlite_template: Path, tmp_path: Path) -> SqliteFile:
    """A fresh, migrated, empty file of SQLite for real processes; its rows are committed, and it goes with the test."""
    return SqliteFile(path=Path(shutil.copy(sqlite_template, tmp_path / "downbeat.sqlite3")))


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgresFactory]:
    """A factory of PostgreSQL servers of the test's own: `server = own_postgres(max_connections=20)`.

    Each has `url` (stable over restarts), `admin_url`, `port`, `pid`, `processes()`, `stop(mode)` and `start()`. It is
    empty: `tests.processes.migrate(server.url)` makes the tables.
    """
    servers: list[EmbeddedPostgres] = []

    def start(**settings: str | int) -> EmbeddedPostgres:
        server = EmbeddedPostgres.ephemeral(settings={name: str(value) for name, value in settings.items()})
        servers.append(server)
        server.start()
        return server

    try:
        yield start
    finally:
        for server in servers:
            server.discard()
