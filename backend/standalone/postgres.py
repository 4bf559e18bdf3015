"""One PostgreSQL server of ours: start, stop, reclaim.

States, by what is found on disk and among the processes; the processes are the authority, `postmaster.pid` is not
(after `kill -9`, or in a container started again, its pid may belong to anybody):

- no data directory: `initdb`, then start.
- a postmaster with our `cluster_name` that answers with our password: it is used as it is.
- one that does not answer, asked three times (frozen, stuck, on a port that we do not know): it is stopped, hard if
  need be, then started.
- leftovers of a dead postmaster: waited for, then killed; then start, and PostgreSQL recovers by itself.

The server has a session of its own (setsid), so ctrl-C at the terminal does not reach it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psutil
import psycopg
from psycopg import sql

from backend.standalone.account import Account, is_root
from backend.standalone.errors import PostgresStartFailed, PostgresUnavailable
from backend.standalone.identity import ProcessIdentity
from backend.standalone.initdb import ENVIRONMENT, copy_data_directory, create_data_directory, free_space
from backend.standalone.placement import (
    RECORD,
    Cluster,
    make_passable,
    make_private_folder,
    new_cluster,
    new_ephemeral_home,
    orphaned_homes,
    programs_of,
    read_cluster,
    server_home,
    sole_remover,
    write_cluster,
)
from backend.standalone.ports import becomes_free, free_port
from backend.standalone.provider import PostgresProvider, WheelPostgres
from backend.standalone.server import has_ended, postmaster, server_processes, signal_process

StopMode = Literal["smart", "fast", "immediate", "kill"]
SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}
START_SECONDS = 60.0
RECOVERY_SECONDS = 600.0
STOP_SECONDS = 30.0
LOG_BYTES = 10 * 2**20
# Without fsync a crash of the machine may destroy the cluster; a crash of the server loses nothing that was committed.
DISPOSABLE = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}


class EmbeddedPostgres:
    """A PostgreSQL server that this program creates, starts and stops. Never for production.

    `EmbeddedPostgres(data_dir)` keeps its data in, or for root as recorded in, `data_dir`.
    `EmbeddedPostgres.ephemeral()` is gone after `discard`. As a context manager: started, and stopped or discarded.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        provider: PostgresProvider | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        """`settings` are PostgreSQL configuration parameters by name, each in the notation of postgresql.conf."""
        self.home = Path(data_dir)
        self.provider = provider or WheelPostgres()
        self.settings = settings or {}
        self.is_ephemeral = False
        self._cluster: Cluster | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._found: ProcessIdentity | None = None

    @classmethod
    def ephemeral(
        cls, *, provider: PostgresProvider | None = None, settings: dict[str, str] | None = None
    ) -> EmbeddedPostgres:
        """A server for tests: no fsync, 200 connections. Its files live until `discard`, or until its owner is dead.

        First removes what dead owners left behind, servers included.
        """
        with sole_remover():
            for orphan in orphaned_homes():
                cls._existing_ephemeral(orphan).discard()
        chosen = DISPOSABLE | (settings or {})
        # One that is to reach the disk, as in a benchmark, has to have one.
        server = cls(new_ephemeral_home(in_memory=chosen["fsync"] == "off"), provider=provider, settings=chosen)
        server.is_ephemeral = True
        return server

    @classmethod
    def _existing_ephemeral(cls, home: Path) -> EmbeddedPostgres:
        server = cls(home)
        server.is_ephemeral = True
        return server

    @property
    def cluster(self) -> Cluster:
        """Where the server is and with which passwords.

        Raises: PostgresUnavailable before the first `start`.
        """
        if self._cluster is None:
            self._cluster = read_cluster(self.home.resolve())
        if self._cluster is None:
            raise PostgresUnavailable(f"no server has been started on {self.home}.")
        return self._cluster

    @property
    def url(self) -> str:
        """Of the database `downbeat` for its owner, the role `downbeat`: may create databases, is no superuser."""
        return self.cluster.url()

    @property
    def admin_url(self) -> str:
        """Of the database `postgres` for the superuser `postgres`."""
        return self.cluster.url(database="postgres", admin=True)

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return self.cluster.port

    @property
    def log_path(self) -> Path:
        """What the server says; the previous file, when it grew past 10 MiB, is `postgres.log.1`."""
        return self.home / "postgres.log"

    @property
    def pid(self) -> int | None:
        """The postmaster's pid; None when no server runs."""
        found = self._postmaster()
        return found.pid if found else None

    @property
    def is_running(self) -> bool:
        """True while the server that `start` last found or started lives. Cheap: looks at one process."""
        if self._server is not None:
            return self._server.poll() is None
        return self._found is not None and self._found.process() is not None

    def start(self) -> str:
        """Create what is missing, reclaim what an earlier start left, and return `url` of a server that answers.

        Not for two processes at a time on one `data_dir`. Raises: PostgresUnavailable, PostgresStartFailed.
        """
        self.home = make_private_folder(self.home)
        self._cluster = read_cluster(self.home) or new_cluster(self.home, ephemeral=self.is_ephemeral)
        self._prepare_folder()
        try:
            if self._postmaster() is None or not any(self._is_answering() for _ in range(3)):
                self.stop("fast")
                self._initialize()
                self._launch()
            self._ensure_database()
            self._found = self._identity()
        except PermissionError as error:
            raise PostgresUnavailable(
                f"starting PostgreSQL under an unprivileged account was not permitted ({error}). "
                "Run as a normal user, or set DATABASE_URL."
            ) from error
        return self.url

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and wait until none of its processes is left. Does nothing when none runs.

        `fast` rolls transactions back and checkpoints; `immediate` and `kill` leave recovery to the next start. A stop
        that takes longer than 30 s is followed by the next harder one.
        """
        modes: list[StopMode] = ["smart", "fast", "immediate", "kill"]
        for harder in modes[modes.index(mode) :]:
            found = self._postmaster()
            if found is None:
                break
            signal_process(found, SIGNALS[harder])
            if has_ended(found, STOP_SECONDS):
                break
        self._end_orphaned_backends()
        if self._server is not None:
            self._server.wait()
            self._server = None

    def discard(self) -> None:
        """Stop the server and remove its data, record and log. Does nothing where no server was ever started."""
        cluster = self._cluster or read_cluster(self.home.resolve())
        if cluster is not None:
            self.stop("immediate")
            shutil.rmtree(cluster.folder, ignore_errors=True)
            (cluster.home / RECORD).unlink(missing_ok=True)
            self._cluster = None
        if self.is_ephemeral:
            shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_ephemeral:
            self.discard()
        else:
            self.stop()

    def processes(self) -> list[psutil.Process]:
        """The server's processes, postmaster first. Found by title and account, never by `postmaster.pid`."""
        return server_processes(self.cluster)

    def _postmaster(self) -> psutil.Process | None:
        if self._server is not None:
            self._server.poll()  # reaps: a zombie is no server
        return postmaster(self.cluster)

    def _identity(self) -> ProcessIdentity | None:
        pid = self.pid
        try:
            return ProcessIdentity.of(pid) if pid else None
        except psutil.NoSuchProcess:  # it has ended since
            return None

    def _prepare_folder(self) -> None:
        if is_root() and not self.is_ephemeral:
            make_passable(self.cluster.folder)
        self.cluster.folder.mkdir(mode=0o700, exist_ok=True)
        write_cluster(self.cluster)

    def _initialize(self) -> None:
        version = self.cluster.data / "PG_VERSION"
        if not version.exists():
            self._make_data_directory()
        elif version.read_text().strip() != str(self.provider.major):
            raise PostgresUnavailable(
                f"{self.cluster.data} is of PostgreSQL {version.read_text().strip()}, the programs are of "
                f"{self.provider.major}. Dump it with the old programs and load it into a new DATA_DIR."
            )

    def _make_data_directory(self) -> None:
        programs, major = self._programs(), self.provider.major
        if self.settings.get("fsync") != "off":
            create_data_directory(self.cluster, programs, major=major, sync=True)
            return
        template = server_home() / "templates" / self.provider.name
        password = copy_data_directory(self.cluster, programs, template, major=major)
        self._cluster = replace(self.cluster, admin_password=password)
        write_cluster(self.cluster)

    def _programs(self) -> Path:
        return programs_of(self.provider)

    def _launch(self) -> None:
        port = self.cluster.port
        if port == 0 or not becomes_free(port, seconds=5 if self.is_ephemeral else 1):
            port = free_port()
        self._cluster = replace(self.cluster, port=port)
        write_cluster(self.cluster)
        self._remove_stale_lock()
        self._rotate_log()
        account = self.cluster.data.stat()
        with open(self.log_path, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
            self._server = subprocess.Popen(
                self._command(),
                cwd=self.cluster.folder,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o077,
                start_new_session=True,
                **(Account(uid=account.st_uid, gid=account.st_gid).popen_options() if is_root() else {}),
            )
        self._wait_until_answering()

    def _command(self) -> list[str]:
        fixed = {
            "cluster_name": self.cluster.name,
            "listen_addresses": "127.0.0.1",
            "port": str(self.cluster.port),
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "update_process_title": "on",
        }
        options = [f"--{name}={value}" for name, value in (self.settings | fixed).items()]
        return [str(self._programs() / "postgres"), "-D", str(self.cluster.data), *options]

    def _remove_stale_lock(self) -> None:
        """A `postmaster.pid` whose pid went to another process of the same account would keep PostgreSQL from starting.

        Safe here: `stop` has just seen that no process of this cluster is left.
        """
        (self.cluster.data / "postmaster.pid").unlink(missing_ok=True)

    def _rotate_log(self) -> None:
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES:
            os.replace(self.log_path, f"{self.log_path}.1")

    def _wait_until_answering(self) -> None:
        assert self._server is not None
        started = time.monotonic()
        while not self._is_answering():
            seconds = time.monotonic() - started
            if self._server.poll() is not None:
                raise PostgresStartFailed(self._failure(f"exited with code {self._server.returncode}"))
            if seconds > (RECOVERY_SECONDS if self._is_recovering() else START_SECONDS):
                self.stop("immediate")
                raise PostgresStartFailed(self._failure(f"did not answer within {seconds:.0f} s"))
            time.sleep(0.05)

    def _is_recovering(self) -> bool:
        """True while the last line of `postmaster.pid` says that the server replays its log after a crash."""
        try:
            return "starting" in (self.cluster.data / "postmaster.pid").read_text()
        except FileNotFoundError:
            return False

    def _failure(self, what: str) -> str:
        tail = "\n".join(self.log_path.read_text(errors="replace").splitlines()[-15:])
        return (
            f"PostgreSQL {what} (data in {self.cluster.folder}, {free_space(self.cluster.folder)}). "
            f"The end of {self.log_path}:\n{tail}"
        )

    def _is_answering(self) -> bool:
        if self.cluster.port == 0:
            return False
        try:
            psycopg.connect(self.admin_url, connect_timeout=3).close()
        except psycopg.OperationalError:
            return False
        return True

    def _end_orphaned_backends(self) -> None:
        """Backends notice by themselves that the postmaster died, except frozen or very busy ones."""
        _gone, left = psutil.wait_procs(self.processes(), timeout=3)
        for process in left:
            signal_process(process, signal.SIGKILL)
        psutil.wait_procs(left, timeout=5)

    def _ensure_database(self) -> None:
        """Create the role and the database when they are absent."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            role = "SELECT 1 FROM pg_roles WHERE rolname = 'downbeat'"
            if connection.execute(role).fetchone() is None:
                # A test server's owner may make roles: tests try what a lesser role is allowed.
                rights = "CREATEDB CREATEROLE" if self.is_ephemeral else "CREATEDB"
                create = sql.SQL("CREATE ROLE downbeat LOGIN {} PASSWORD {}")
                connection.execute(create.format(sql.SQL(rights), sql.Literal(self.cluster.password)))
            database = "SELECT 1 FROM pg_database WHERE datname = 'downbeat'"
            if connection.execute(database).fetchone() is None:
                connection.execute("CREATE DATABASE downbeat OWNER downbeat")
