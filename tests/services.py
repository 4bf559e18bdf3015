"""The servers that contract tests talk to, and whether they are here.

A test marked `services("redis")` skips and says which server is absent; under `REQUIRE_SERVICES=1` it fails instead.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import socket
from collections.abc import Callable
from functools import cache, partial
from urllib.parse import urlsplit

import psycopg

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
MARIADB_URL = os.environ.get("MARIADB_URL", "mysql://root@127.0.0.1:3306/test")
RABBITMQ_URL = os.environ.get("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
ADMIN_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"


def executable(name: str) -> str | None:
    """The path of an installed program, also of one that only administrators have on their PATH; None when absent."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{ADMIN_FOLDERS}")


def chromium() -> str | None:
    """The path of Chromium, under any of its usual names; None when absent."""
    return next(filter(None, map(executable, ("chromium", "chromium-browser", "google-chrome"))), None)


@cache
def is_present(name: str) -> bool:
    """True when the server answers in its own protocol (asked once per run), or the program is installed.

    Raises: KeyError for a name that is not one of `NAMES`.
    """
    return PROBES[name]()


def _answers(url: str, greeting: bytes, expected: bytes) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0), timeout=30) as connection:
            connection.sendall(greeting)
            return expected in connection.recv(512)
    except OSError:
        return False


def _postgresql() -> bool:
    try:
        psycopg.connect(os.environ.get("DATABASE_URL", ""), connect_timeout=30).close()
    except psycopg.OperationalError:
        return False
    return True


def _odbc() -> bool:
    return ctypes.util.find_library("odbc") is not None


def use_pymysql() -> None:
    """Let Django's MySQL backend use PyMySQL, which needs no compiler to install. Before its first import."""
    import pymysql

    pymysql.install_as_MySQLdb()


PROBES: dict[str, Callable[[], bool]] = {
    "postgresql": _postgresql,
    "redis": partial(_answers, REDIS_URL, b"PING\r\n", b"+PONG"),
    "mariadb": partial(_answers, MARIADB_URL, b"", b"MariaDB"),
    "rabbitmq": partial(_answers, RABBITMQ_URL, b"AMQP\x00\x00\x09\x01", b"RabbitMQ"),
    "odbc": _odbc,
    "pgbouncer": lambda: executable("pgbouncer") is not None,
    "chromium": lambda: chromium() is not None,
}
NAMES = frozenset(PROBES)
