"""What the contract needs of each store besides its port: a clean slate, the passing of time, a lost connection.

A store joins the suite by an entry in `HARNESSES`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Protocol

from django.db import DatabaseError, InterfaceError, connection

from pg_queue.ports import QueueStore
from pg_queue.storage import store
from tests.processes import child_environment, database_url


class Harness(Protocol):
    """One store under test."""

    services: ClassVar[tuple[str, ...]]
    """Servers that must be there; see `tests.services`."""
    failures: ClassVar[tuple[type[Exception], ...]]
    """What the store raises where its server, or the connection to it, fails."""
    has_server_clock: ClassVar[bool]
    """False: client and store share the machine's clock by nature, so neither can be wrong."""

    @property
    def store(self) -> QueueStore:
        """The store."""

    def environment(self) -> dict[str, str]:
        """What a process of its own needs in its environment for `pg_queue.storage.store()` to be this store."""

    def spoil(self) -> uuid.UUID:
        """Put a due message in the queue `default` by hand that no reader can make sense of; its id."""

    def clear(self) -> None:
        """Forget everything."""

    def advance(self, seconds: float) -> None:
        """Let time pass for everything that is stored."""

    @contextmanager
    def broken_settling(self) -> Iterator[None]:
        """Within: settling is cut off after its first statement, as by a lost connection."""


class PostgresHarness:
    """The PostgreSQL store, on pytest-django's database; what it writes is committed."""

    services = ("postgresql",)
    failures = (DatabaseError, InterfaceError)
    has_server_clock = True
    tables = (
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
    )

    @property
    def store(self) -> QueueStore:
        """See the protocol."""
        return store()

    def environment(self) -> dict[str, str]:
        """See the protocol."""
        return child_environment(database_url(os.environ["DATABASE_URL"], connection.settings_dict["NAME"]))

    def spoil(self) -> uuid.UUID:
        """A number of more digits than Python converts."""
        message_id = uuid.uuid4()
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO pg_queue_message (id, task, args, kwargs, headers, max_attempts)"
                " VALUES (%s, 'noop', %s, '{}', '{}', 3)",
                [message_id, f"[{'9' * 5000}]"],
            )
        return message_id

    def clear(self) -> None:
        """See the protocol."""
        with connection.cursor() as cursor:
            for table in self.tables:
                cursor.execute(f"DELETE FROM {table}")  # of a few rows: a tenth of a TRUNCATE's time

    def advance(self, seconds: float) -> None:
        """Every stored instant moves into the past: the same as the clock moving on."""
        instants = {
            "pg_queue_message": ("run_after", "enqueued_at", "lease_until", "started_at"),
            "pg_queue_result": ("finished_at", "expires_at"),
            "pg_queue_deadletter": ("died_at", "enqueued_at"),
            "pg_queue_worker": ("heartbeat_at", "started_at", "stopped_at"),
            "pg_queue_key": ("expires_at",),
            "pg_queue_barrier": ("created_at", "ended_at"),
            "pg_queue_event": ("created_at", "run_after"),
            "pg_queue_lock": ("expires_at",),
        }
        with connection.cursor() as cursor:
            for table, columns in instants.items():
                moves = ", ".join(f"{column} = {column} - make_interval(secs => %(by)s)" for column in columns)
                cursor.execute(f"UPDATE {table} SET {moves}", {"by": seconds})

    @contextmanager
    def broken_settling(self) -> Iterator[None]:
        """Dead letters cannot be written: the server ends the session in the middle of the transaction."""
        with connection.cursor() as cursor:
            cursor.execute("""
                CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$
            """)
            cursor.execute(
                "CREATE TRIGGER cut BEFORE INSERT ON pg_queue_deadletter FOR EACH ROW EXECUTE FUNCTION cut()"
            )
        try:
            yield
        finally:
            connection.close()
            with connection.cursor() as cursor:
                cursor.execute("DROP FUNCTION cut CASCADE")


HARNESSES: dict[str, Callable[[], Harness]] = {"postgres": PostgresHarness}
