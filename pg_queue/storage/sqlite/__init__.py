"""The queue in a file of SQLite; the contract is `pg_queue.ports.QueueStore`."""

from pg_queue.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
