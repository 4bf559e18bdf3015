"""What the contract needs of each store besides its port: a clean slate, the passing of time, a lost connection.

A store joins the suite by an entry in `HARNESSES`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import ClassVar, Protocol

from django.db import DatabaseError, InterfaceError, connection, connections
from django.db.models import UUIDField

from backend.database_url import parse_database_url
from pg_queue.ports import QueueStore
from pg_queue.storage import store
from tests.contract.mongodb_harness import MongoHarness
from tests.contract.redis_harness import RedisHarness
from tests.processes import child_environment, database_url, migrated_sqlite_file, sqlite_url


class Harness(Protocol):
    """One store under test."""

    services: ClassVar[tuple[str, ...]]
    """Servers that must be there; see `tests.services`."""
    failures: ClassVar[tuple[type[Exception], ...]]
    """What the store raises where its server, or the connection to it, fails."""
    has_server_clock: ClassVar[bool]
    """False: client and store share the machine's clock by nature, so neither can be wrong."""

    has_one_writer: ClassVar[bool]
    """True: who writes waits for the end of any other transaction that writes."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within: `pg_queue.storage.store()` is this store."""

    @property
    def store(self) -> QueueStore:
        """The store."""

    def environment(self) -> dict[str, str]:
        """What a process of its own needs in its environment for `pg_queue.storage.store()` to be this store."""

    def spoil(self) -> uuid.UUID:
        """Put a due message in the queue `default` by hand that no reader can make sense of; its id."""

    def spoil_event(self, event_id: uuid.UUID) -> None:
        """Give this event a payload by hand that no reader can make sense of."""

    def clear(self) -> None:
        """Forget everything."""

    def advance(self, seconds: float) -> None:
        """Let time pass for everything that is stored."""

    cut_points: ClassVar[tuple[str, ...]]
    """Where an operation can be cut off in its midst, by names of the store's own."""

    @contextmanager
    def cut_at(self, point: str) -> Iterator[None]:
        """Within: who comes to this point of an operation is cut off from the store, as by a lost connection."""


TABLES = (
    "pg_queue_message",
    "pg_queue_result",
    "pg_queue_deadletter",
    "pg_queue_worker",
    "pg_queue_key",
    "pg_queue_barrierplan",
    "pg_queue_barrier",
    "pg_queue_event",
    "pg_queue_switch",
    "pg_queue_lock",
    "pg_queue_limit",
)
INSTANTS = {
    "pg_queue_message": ("run_after", "enqueued_at", "lease_until", "started_at"),
    "pg_queue_result": ("finished_at", "expires_at"),
    "pg_queue_deadletter": ("died_at", "enqueued_at"),
    "pg_queue_worker": ("heartbeat_at", "started_at", "stopped_at"),
    "pg_queue_key": ("expires_at",),
    "pg_queue_barrier": ("created_at", "ended_at"),
    "pg_queue_event": ("created_at", "run_after"),
    "pg_queue_lock": ("expires_at",),
    "pg_queue_limit": ("full_at", "asked_at"),
}


WRITES = tuple(
    f"{when} {what} ON pg_queue_{table}"
    for table, writes in {
        "message": ("INSERT", "UPDATE", "DELETE"),
        "result": ("INSERT",),
        "deadletter": ("INSERT",),
        "key": ("INSERT", "UPDATE"),
        "barrier": ("INSERT", "UPDATE"),
        "barrierplan": ("INSERT",),
        "event": ("INSERT",),
    }.items()
    for what in writes
    for when in ("BEFORE", "AFTER")
)
"""Every write of an operation that makes, claims or ends messages; as a trigger names it."""
COMMIT = "COMMIT"
"""When all of a settlement is written, and nothing is committed."""


class DatabaseHarness:
    """A store in a Django database, which is the alias `default`."""

    failures = (DatabaseError, InterfaceError)
    has_server_clock = True
    move: ClassVar[str]
    """SQL expression of a column's instant, `%(by)s` seconds before."""

    @property
    def store(self) -> QueueStore:
        """See the protocol."""
        return store()

    def spoil(self) -> uuid.UUID:
        """A number of more digits than Python converts."""
        message_id = uuid.uuid4()
        args = f"[{'9' * 5000}]"
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO pg_queue_message (id, task, args, kwargs, headers, max_attempts)"
                " VALUES (%s, 'noop', %s, '{}', '{}', 3)",
                [UUIDField().get_db_prep_value(message_id, connection), args],
            )
        return message_id

    def spoil_event(self, event_id: uuid.UUID) -> None:
        """A number of more digits than Python converts."""
        stored_id = UUIDField().get_db_prep_value(event_id, connection)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE pg_queue_event SET payload = %s WHERE id = %s", [f"[{'9' * 5000}]", stored_id])

    def clear(self) -> None:
        """See the protocol."""
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DELETE FROM {table}")  # of a few rows: a tenth of a TRUNCATE's time

    def advance(self, seconds: float) -> None:
        """Every stored instant moves into the past: the same as the clock moving on."""
        with connection.cursor() as cursor:
            for table, columns in INSTANTS.items():
                moves = ", ".join(f"{column} = {self.move.format(column)}" for column in columns)
                cursor.execute(f"UPDATE {table} SET {moves}", {"by": seconds})


class PostgresHarness(DatabaseHarness):
    """The PostgreSQL store, on pytest-django's database; what it writes is committed."""

    services = ("postgresql",)
    has_one_writer = False
    cut_points = (*WRITES, COMMIT)
    move = "{} - make_interval(secs => %(by)s)"

    @contextmanager
    def installed(self) -> Iterator[None]:
        """It is already."""
        yield

    def environment(self) -> dict[str, str]:
        """See the protocol."""
        return child_environment(database_url(os.environ["DATABASE_URL"], connection.settings_dict["NAME"]))

    @contextmanager
    def cut_at(self, point: str) -> Iterator[None]:
        """The server ends the session there, by a trigger."""
        kind = "TRIGGER cut" if point != COMMIT else "CONSTRAINT TRIGGER cut"
        where = point if point != COMMIT else "AFTER INSERT ON pg_queue_result DEFERRABLE INITIALLY DEFERRED"
        with connection.cursor() as cursor:
            cursor.execute("""
                CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    PERFORM pg_terminate_backend(pg_backend_pid());
                    PERFORM pg_sleep(60);  -- it is ended here, if not before
                    RETURN NULL;
                END $$
            """)
            cursor.execute(f"CREATE {kind} {where} FOR EACH ROW EXECUTE FUNCTION cut()")
        try:
            yield
        finally:
            connection.close()
            with connection.cursor() as cursor:
                cursor.execute("DROP FUNCTION cut CASCADE")


class SqliteHarness(DatabaseHarness):
    """The SQLite store, in a file of its own that is the alias `default` in all threads meanwhile."""

    services = ()
    has_one_writer = True
    cut_points = WRITES
    move = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', {}, printf('%%+.3f seconds', -%(by)s))"

    @contextmanager
    def installed(self) -> Iterator[None]:
        """pytest-django gets its own connection, and its settings, back for what it does at the test's end."""
        before, settings = connections["default"], connections.settings["default"]
        connections.settings["default"] = connections.configure_settings(
            {"default": parse_database_url(sqlite_url(own_file()))}
        )["default"]
        del connections["default"]
        store.cache_clear()
        try:
            yield
        finally:
            connections["default"].close()
            connections.settings["default"], connections["default"] = settings, before
            store.cache_clear()

    def environment(self) -> dict[str, str]:
        """See the protocol."""
        return child_environment(sqlite_url(own_file()))

    @contextmanager
    def cut_at(self, point: str) -> Iterator[None]:
        """The transaction is rolled back there, as it is for who dies there."""
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TRIGGER cut {point} BEGIN SELECT RAISE(ROLLBACK, 'cut'); END")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP TRIGGER cut")


@cache
def own_file() -> Path:
    """A file of SQLite for all tests of this process."""
    folder = Path(tempfile.mkdtemp(prefix="downbeat_contract_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(shutil.copy(migrated_sqlite_file(), folder / "queue.sqlite3"))


HARNESSES: dict[str, Callable[[], Harness]] = {
    "mongodb": MongoHarness,
    "postgres": PostgresHarness,
    "redis": RedisHarness,
    "sqlite": SqliteHarness,
}
