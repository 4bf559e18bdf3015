"""Named locks, as rows that expire."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from pg_queue.sql import statements
from pg_queue.sqlite import as_text
from pg_queue.storage.sqlite.session import Session, after


class SqliteLocks:
    """Implements `pg_queue.ports.Locks`."""

    def __init__(self, session: Session, namespace: str) -> None:
        self._session, self._namespace = session, namespace
        self._statements = statements("locks", "sqlite")

    def acquire(self, name: str, *, ttl: timedelta) -> uuid.UUID | None:
        """See the port."""
        owner = uuid.uuid4()

        def acquire(now: datetime) -> bool:
            return bool(self._session.fetch(self._statements["acquire"], self._row(name, owner, now, ttl)))

        return owner if self._session.write(acquire) else None

    def extend(self, name: str, owner: uuid.UUID, *, ttl: timedelta) -> bool:
        """See the port."""
        return self._session.write(lambda now: self._change("extend", self._row(name, owner, now, ttl)))

    def release(self, name: str, owner: uuid.UUID) -> bool:
        """See the port."""
        return self._session.write(lambda now: self._change("release", self._row(name, owner, now, timedelta())))

    def retain(self, *, now: datetime, limit: int) -> int:
        """Delete at most `limit` locks that have expired, of all namespaces; return how many."""
        return self._session.count(self._statements["retain"], {"now": as_text(now), "limit": limit})

    def _change(self, statement: str, row: dict[str, Any]) -> bool:
        return self._session.count(self._statements[statement], row) > 0

    def _row(self, name: str, owner: uuid.UUID, now: datetime, ttl: timedelta) -> dict[str, Any]:
        instants = {"now": as_text(now), "until": after(now, ttl)}
        return {"namespace": self._namespace, "name": name, "owner": owner.hex, **instants}
