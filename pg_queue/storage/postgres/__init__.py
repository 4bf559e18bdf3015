"""The queue in PostgreSQL, on the Django connection of its database. The statements are in `sql/postgres/`."""

from pg_queue.storage.postgres.store import ENQUEUE_BYTES, ENQUEUE_CHUNK, PostgresStore

__all__ = ["ENQUEUE_BYTES", "ENQUEUE_CHUNK", "PostgresStore"]
