"""Real processes and real databases for tests: what production runs, started, frozen, killed and read line by line."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal, Protocol
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
from psycopg import sql

from backend.standalone.postgres import EmbeddedPostgres
from pg_queue.sqlite import add_functions

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "downbeat_p"
LOCKED_HERE = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
"""Leaves out of `pg_locks` what other tests hold, which may run on the same server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that a process wrote."""

    at: float
    """`time.monotonic()` when it was read."""
    stream: Literal["stdout", "stderr"]
    text: str
    """Without its line end."""


class RunningProcess:
    """A process in a process group of its own, its output captured by line.

    Safe to use from one test; the reading threads only append.
    """

    def __init__(self, argv: list[str], *, env: Mapping[str, str], cwd: Path = ROOT) -> None:
        """Start `argv` with exactly `env`, standard input closed."""
        self.argv = argv
        self.started_at = time.monotonic()
        self.lines: list[Line] = []
        self._read = threading.Condition()
        self._popen = subprocess.Popen(
            argv,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._readers = [self._start_reader("stdout"), self._start_reader("stderr")]

    @property
    def pid(self) -> int:
        """Of the process itself, which leads its group."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    @property
    def stdout(self) -> str:
        """What it has written to standard output so far; all of it once `wait` has returned."""
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self._text("stderr")

    @property
    def output(self) -> str:
        """Both streams, in the order in which their lines were read."""
        return "\n".join(line.text for line in list(self.lines))

    def wait_for_line(self, pattern: str, timeout: float = 90, *, after: int = 0) -> re.Match[str]:
        """Wait for a line of either stream that matches (`re.search`), from line number `after` on.

        Raises: AssertionError with the output when the process ends, or `timeout` seconds pass, without it.
        """
        expression, seen, deadline = re.compile(pattern), after, time.monotonic() + timeout
        with self._read:
            while True:
                for line in self.lines[seen:]:
                    if match := expression.search(line.text):
                        return match
                seen = max(seen, len(self.lines))
                left = deadline - time.monotonic()
                if left <= 0 or self._is_drained():
                    reason = "ended" if self._is_drained() else f"ran {timeout} s"
                    raise AssertionError(f"{self} {reason} without a line matching {pattern!r}:\n{self.output}")
                self._read.wait(min(left, 0.2))

    def wait(self, timeout: float = 90) -> int:
        """Wait for the end and all output; the exit code.

        Raises: AssertionError with the output after `timeout` seconds.
        """
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} still runs after {timeout} s:\n{self.output}") from None
        for reader in self._readers:
            reader.join(30)
        return code

    def kill(self, *, group: bool = False) -> None:
        """SIGKILL, to the process alone or to its whole group, and wait until it is gone."""
        self.send(signal.SIGKILL, group=group)
        self.wait()

    def stop(self, timeout: float = 90) -> int:
        """SIGTERM, and wait; the exit code."""
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def freeze(self, *, group: bool = False) -> None:
        """SIGSTOP, and wait until the system shows it as stopped."""
        self.send(signal.SIGSTOP, group=group)
        process, deadline = psutil.Process(self.pid), time.monotonic() + 30
        while process.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, f"{self} did not stop"
            time.sleep(0.005)

    def thaw(self, *, group: bool = False) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT, group=group)

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal, to the process alone or to its whole group; nothing happens when it is gone."""
        with suppress(ProcessLookupError):
            if group:
                os.killpg(self.pid, number)
            elif self.returncode is None:
                os.kill(self.pid, number)

    def clean_up(self) -> None:
        """Kill what is left of the group, frozen or not, and close the pipes. May be called twice."""
        self.send(signal.SIGKILL, group=True)
        self._popen.wait(60)
        for reader in self._readers:
            reader.join(30)

    def __str__(self) -> str:
        return f"{' '.join(self.argv[1:])} (pid {self.pid})"

    def _text(self, stream: str) -> str:
        return "\n".join(line.text for line in list(self.lines) if line.stream == stream)

    def _is_drained(self) -> bool:
        return not any(reader.is_alive() for reader in self._readers)

    def _start_reader(self, stream: Literal["stdout", "stderr"]) -> threading.Thread:
        pipe = self._popen.stdout if stream == "stdout" else self._popen.stderr
        reader = threading.Thread(target=self._read_lines, args=(pipe, stream), daemon=True)
        reader.start()
        return reader

    def _read_lines(self, pipe: IO[str], stream: Literal["stdout", "stderr"]) -> None:
        with pipe:
            for text in pipe:
                with self._read:
                    self.lines.append(Line(at=time.monotonic(), stream=stream, text=text.rstrip("\n")))
                    self._read.notify_all()
        with self._read:
            self._read.notify_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessDatabase:
    """A database that real processes use, by URL: migrated, empty, and of one test only."""

    url: str

    @property
    def name(self) -> str:
        """The database's name."""
        return urlsplit(self.url).path.lstrip("/")

    def connect(self, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A new session of the test's own (autocommit unless said otherwise); close it, or use it in a `with`."""
        return psycopg.connect(self.url, **{"autocommit": True, **options})


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteFile:
    """A database of SQLite that real processes use: migrated, empty, and of one test only."""

    path: Path

    @property
    def url(self) -> str:
        """As `DATABASE_URL` has it."""
        return sqlite_url(self.path)

    def connect(self) -> sqlite3.Connection:
        """A new connection of the test's own, in autocommit, as the service opens its own; close it."""
        connection = sqlite3.connect(self.path, timeout=20, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        add_functions(connection)
        return connection


class Manage:
    """Starts `manage.py` commands, and other programs, on one database; ends them all with the test."""

    def __init__(self, url: str | None) -> None:
        self.url = url
        self.processes: list[RunningProcess] = []

    def __call__(self, *arguments: str, url: str | None = None, env: Mapping[str, str] | None = None) -> RunningProcess:
        """Start `manage.py <arguments>` on `url` (or the launcher's) with `env` added to the environment."""
        return self.launch([sys.executable, "manage.py", *arguments], url=url, env=env)

    def run(
        self, *arguments: str, url: str | None = None, env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> RunningProcess:
        """Start `manage.py <arguments>` and wait for its end, whatever its exit code."""
        process = self(*arguments, url=url, env=env)
        process.wait(timeout)
        return process

    def launch(
        self, argv: list[str], *, url: str | None = None, env: Mapping[str, str] | None = None
    ) -> RunningProcess:
        """Start any program from the project's root with `DATABASE_URL` set."""
        process = RunningProcess(argv, env=child_environment(url or self.url) | dict(env or {}))
        self.processes.append(process)
        return process

    def clean_up(self) -> None:
        """Kill every process that was started, with its group."""
        clean_up(self.processes)


class OwnPostgresFactory(Protocol):
    """Gives a test a PostgreSQL of its own, to stop, kill, freeze or fill. Started; discarded with the test."""

    def __call__(self, **settings: str | int) -> EmbeddedPostgres:
        """`settings` are configuration parameters, e.g. `max_connections=20`, `idle_session_timeout="1s"`."""


def clean_up(processes: Iterable[RunningProcess]) -> None:
    """Kill what is left of all of them, whichever of them refuses to go.

    Raises: subprocess.TimeoutExpired at the end, for one that is there 60 s after SIGKILL.
    """
    with ExitStack() as every:
        for process in processes:
            every.callback(process.clean_up)


def child_environment(url: str | None) -> dict[str, str]:
    """This process's environment for a child on the database `url`, output unbuffered, the project's own settings."""
    environment = dict(os.environ, PYTHONUNBUFFERED="1", DJANGO_SETTINGS_MODULE="backend.settings")
    if url:
        environment["DATABASE_URL"] = url
    return environment


def database_url(url: str, name: str) -> str:
    """The same server's URL with another database's name."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def sqlite_url(path: Path) -> str:
    """`DATABASE_URL` of a file of SQLite."""
    return f"sqlite:///{path}"


def migrate(url: str) -> None:
    """Run `manage.py migrate` in a process of its own.

    Raises: AssertionError with its output when it fails.
    """
    command = [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity=0"]
    finished = subprocess.run(
        command, cwd=ROOT, env=child_environment(url), capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 0, f"migrate failed:\n{finished.stdout}\n{finished.stderr}"


@cache
def migrated_sqlite_file() -> Path:
    """A migrated file of SQLite, made once in this process, to copy from; nobody may write to it."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "template.sqlite3"
    migrate(sqlite_url(path))
    return path


@contextmanager
def template_database(url: str) -> Iterator[str]:
    """A migrated database on the server of `url`, to copy from; its name. Nobody may stay connected to it."""
    with psycopg.connect(url, autocommit=True) as server:
        _drop_leftovers(server)
    with _database(url, f"{PREFIX}{os.getpid()}_template", template="template0") as name:
        migrate(database_url(url, name))
        yield name


@contextmanager
def copied_database(url: str, template: str, name: str) -> Iterator[ProcessDatabase]:
    """A throwaway copy of `template`; dropped at the end with whoever is still connected."""
    with _database(url, f"{PREFIX}{os.getpid()}_{name}", template=template) as full_name:
        yield ProcessDatabase(url=database_url(url, full_name))


@contextmanager
def _database(url: str, name: str, *, template: str) -> Iterator[str]:
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    with psycopg.connect(url, autocommit=True) as server:
        _drop_database(server, name)
        server.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield name
    finally:
        with psycopg.connect(url, autocommit=True) as server:
            _drop_database(server, name)


def _drop_database(server: psycopg.Connection[Any], name: str, within_seconds: float = 60) -> None:
    """Drop a database with whoever is still connected.

    FORCE fails where an autovacuum worker is, which no lesser role may terminate; a plain DROP asks it to leave.
    """
    drop = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            server.execute(drop + sql.SQL(" WITH (FORCE)"))
        except psycopg.errors.InsufficientPrivilege:
            if time.monotonic() > deadline:
                raise
            with suppress(psycopg.errors.ObjectInUse):
                server.execute(drop)
        else:
            return


def _drop_leftovers(server: psycopg.Connection[Any]) -> None:
    """Remove the databases of killed runs: their names hold the run's pid, which is valid on this machine only."""
    if server.info.host not in {"127.0.0.1", "localhost", "::1"} and not server.info.host.startswith("/"):
        return
    rows = server.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX]).fetchall()
    for (name,) in rows:
        owner = re.match(rf"{PREFIX}(\d+)_", name)
        if owner and not psutil.pid_exists(int(owner[1])):
            _drop_database(server, name)
