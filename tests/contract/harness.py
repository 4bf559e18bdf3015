"""What the contract needs of each store besides its port: a clean slate, the passing of time, a lost connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from django.db import connection

from pg_queue.ports import QueueStore
from pg_queue.storage import store


class Harness(Protocol):
    """One store under test."""

    @property
    def store(self) -> QueueStore:
        """The store."""

    def clear(self) -> None:
        """Forget everything."""

    def advance(self, seconds: float) -> None:
        """Let time pass for everything that is stored."""

    @contextmanager
    def broken_settling(self) -> Iterator[None]:
        """Within: settling is cut off after its first statement, as by a lost connection."""


class PostgresHarness:
    """The PostgreSQL store, on pytest-django's database; what it writes is committed."""

    tables = ("pg_queue_message", "pg_queue_result", "pg_queue_deadletter", "pg_queue_worker")

    @property
    def store(self) -> QueueStore:
        """See the protocol."""
        return store()

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


HARNESSES = {"postgres": PostgresHarness}
