"""Places where results can be kept, made for tests: a database or a key prefix of its own on each live server."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from django.core.management import call_command
from django.db import connections
from redis import Redis

from backend.database_url import parse_database_url
from tests.processes import RunningProcess
from tests.services import MARIADB_URL, REDIS_URL, use_pymysql

ALIAS = "results_here"
TABLE = "pg_queue_results_result"
MSSQL_URL = os.environ.get("TEST_MSSQL_URL", "")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where results are kept, as settings say it, for this process and for those that a test starts."""

    name: str
    results: Mapping[str, Any]
    """`PG_QUEUE["RESULTS"]`."""
    databases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What `DATABASES` needs for it."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of its server."""
        if self.name == "redis":
            parts = urlsplit(self.results["URL"])
            return parts.hostname or "127.0.0.1", parts.port or 6379
        entry = self.databases[ALIAS]
        return entry["HOST"], int(entry["PORT"])

    def at(self, host: str, port: int) -> Place:
        """The same place by another address of its server."""
        if self.name == "redis":
            parts = urlsplit(self.results["URL"])
            url = parts._replace(netloc=f"{host}:{port}").geturl()
            return Place(name=self.name, results={**self.results, "URL": url})
        entry = {**self.databases[ALIAS], "HOST": host, "PORT": str(port)}
        return Place(name=self.name, results=self.results, databases={ALIAS: entry})


def _in_database(name: str, entry: Mapping[str, Any]) -> Place:
    return Place(name=name, results={"BACKEND": "database", "DATABASE": ALIAS}, databases={ALIAS: entry})


@contextmanager
def connected(place: Place) -> Iterator[None]:
    """Within: this process has the aliases of the place."""
    for alias, entry in place.databases.items():
        known = connections["default"].settings_dict
        connections.settings[alias] = {**known, "OPTIONS": {}, "CONN_MAX_AGE": 0, "TEST": {}, **entry}
    try:
        yield
    finally:
        for alias in place.databases:
            if hasattr(connections._connections, alias):  # type: ignore[attr-defined]
                connections[alias].close()
                del connections[alias]
            del connections.settings[alias]


def _migrate(place: Place) -> None:
    with connected(place):
        call_command("migrate", "pg_queue_results", database=ALIAS, verbosity=0)


@contextmanager
def postgresql(folder: Path) -> Iterator[Place]:
    """A database on the run's own server."""
    entry = parse_database_url(os.environ["DATABASE_URL"])
    with _own_database(entry, quote='"') as own:
        yield _in_database("postgresql", own)


@contextmanager
def mariadb(folder: Path) -> Iterator[Place]:
    """A database on the live server."""
    use_pymysql()
    parts = urlsplit(MARIADB_URL)
    entry = {
        "ENGINE": "django.db.backends.mysql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username,
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname,
        "PORT": str(parts.port or 3306),
        "OPTIONS": {"connect_timeout": 5, "read_timeout": 30, "write_timeout": 30},
    }
    with _own_database(entry, quote="`") as own:
        yield _in_database("mariadb", own)


@contextmanager
def sqlite(folder: Path) -> Iterator[Place]:
    """A file in `folder`."""
    options = {"timeout": 30, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}
    entry = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(folder / "results.sqlite3"),
        "USER": "",
        "HOST": "",
        "PORT": "",
        "OPTIONS": options,
    }
    place = _in_database("sqlite", entry)
    _migrate(place)
    yield place


@contextmanager
def redis(folder: Path) -> Iterator[Place]:
    """A prefix on the live server; its keys go at the end."""
    prefix = f"downbeat-test-{os.getpid()}-{next(_numbers)}"
    yield Place(name="redis", results={"BACKEND": "redis", "URL": REDIS_URL, "PREFIX": prefix})
    with Redis.from_url(REDIS_URL) as client:
        forget_redis(client, prefix)


def forget_redis(client: Redis, prefix: str) -> None:
    """Delete all results with this prefix: those of the index, since a scan would walk everybody's keys."""
    finished, expiring = f"{{{prefix}}}:results:finished", f"{{{prefix}}}:results:expiring"
    keys = [f"{{{prefix}}}:result:{member.decode()}" for member in client.zrange(finished, 0, -1)]
    client.delete(*keys, finished, expiring)


@contextmanager
def mssql(folder: Path) -> Iterator[Place]:
    """The empty database that `TEST_MSSQL_URL` names: mssql://user:password@host:1433/name."""
    parts = urlsplit(MSSQL_URL)
    entry = {
        "ENGINE": "mssql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username,
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname,
        "PORT": str(parts.port or 1433),
        "OPTIONS": {"driver": "ODBC Driver 18 for SQL Server", "extra_params": "TrustServerCertificate=yes"},
    }
    place = _in_database("mssql", entry)
    _migrate(place)
    yield place


PLACES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "postgresql": postgresql,
    "mariadb": mariadb,
    "sqlite": sqlite,
    "redis": redis,
    **({"mssql": mssql} if MSSQL_URL else {}),
}
MARKS = {"mariadb": pytest.mark.services("mariadb"), "redis": pytest.mark.services("redis")}


def parameters(*names: str) -> list[Any]:
    """These places, or all, for a parametrized test or fixture; each is skipped by name where its server is absent."""
    return [pytest.param(name, marks=MARKS.get(name, ())) for name in names or PLACES]


@contextmanager
def own_redis(folder: Path, port: int | None = None, *, options: Sequence[str] = ()) -> Iterator[str]:
    """The URL of a Redis server of the test's own that appends to a file in `folder`; killed at the end."""
    port = port or _free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes"]
    command += ["--appendfsync", "always", "--save", "", *options]
    server = RunningProcess(command, env=dict(os.environ))
    try:
        server.wait_for_line("Ready to accept connections")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.clean_up()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def _own_database(entry: Mapping[str, Any], *, quote: str) -> Iterator[dict[str, Any]]:
    """A fresh database with the table, beside the one of `entry`."""
    server = _in_database("server", entry)
    name = f"{quote}downbeat_r{os.getpid()}_{next(_numbers)}{quote}"
    own = {**entry, "NAME": name.strip(quote)}
    _execute(server, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
    try:
        _migrate(_in_database("own", own))
        yield own
    finally:
        _execute(server, f"DROP DATABASE IF EXISTS {name}")


def _execute(place: Place, *statements: str) -> None:
    with connected(place), connections[ALIAS].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
