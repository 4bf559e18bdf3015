"""Buckets of tokens, as rows, by the database's clock."""

from __future__ import annotations

from pg_queue.domain import ROUNDING, Grant, RateLimit
from pg_queue.sql import statements
from pg_queue.storage.postgres.connection import StoreConnection


class PostgresLimits:
    """Implements `pg_queue.ports.Limits`."""

    def __init__(self, connection: StoreConnection, namespace: str) -> None:
        self._connection, self._namespace = connection, namespace
        self._statements = statements("limits")

    def take(self, name: str, limit: RateLimit, *, wanted: int) -> Grant:
        """See the port."""
        parameters = {
            "namespace": self._namespace,
            "name": name,
            "wanted": wanted,
            "burst": limit.burst,
            "interval": limit.interval_seconds,
            "rounding": ROUNDING,
        }
        ((count, wait_seconds),) = self._connection.fetch(self._statements["take"], parameters)
        return Grant(count=count, wait_seconds=wait_seconds)

    def give_back(self, name: str, limit: RateLimit, *, count: int) -> None:
        """See the port."""
        parameters = {"namespace": self._namespace, "name": name, "count": count, "interval": limit.interval_seconds}
        self._connection.count(self._statements["give_back"], parameters)
