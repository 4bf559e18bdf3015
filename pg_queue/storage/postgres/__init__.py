"""The queue in PostgreSQL, on the Django connection of its database. The statements are in `sql/postgres/`."""

from pg_queue.storage.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
