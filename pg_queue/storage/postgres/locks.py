"""Named locks, as rows that expire by the database's clock."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from pg_queue.sql import statements
from pg_queue.storage.postgres.connection import StoreConnection


class PostgresLocks:
    """Implements `pg_queue.ports.Locks`."""

    def __init__(self, connection: StoreConnection, namespace: str) -> None:
        self._connection, self._namespace = connection, namespace
        self._statements = statements("locks")

    def acquire(self, name: str, *, ttl: timedelta) -> uuid.UUID | None:
        """See the port."""
        owner = uuid.uuid4()
        return owner if self._change("acquire", name, owner, ttl=ttl.total_seconds()) else None

    def extend(self, name: str, owner: uuid.UUID, *, ttl: timedelta) -> bool:
        """See the port."""
        return self._change("extend", name, owner, ttl=ttl.total_seconds())

    def release(self, name: str, owner: uuid.UUID) -> bool:
        """See the port."""
        return self._change("release", name, owner)

    def retain(self, *, limit: int) -> int:
        """Delete at most `limit` locks that have expired, of all namespaces; return how many."""
        return self._connection.count(self._statements["retain"], {"limit": limit})

    def _change(self, statement: str, name: str, owner: uuid.UUID, **parameters: Any) -> bool:
        row = {"namespace": self._namespace, "name": name, "owner": owner, **parameters}
        return bool(self._connection.fetch(self._statements[statement], row))
