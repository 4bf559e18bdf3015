"""An operator's switch per queue, as rows. Every claim reads them in its own statement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from pg_queue.domain import Switch
from pg_queue.sql import statements
from pg_queue.storage.postgres.connection import StoreConnection
from pg_queue.storage.rows import Row, waker


class PostgresSwitches:
    """Implements `pg_queue.ports.Switches`."""

    def __init__(self, connection: StoreConnection, namespace: str) -> None:
        self._connection, self._namespace = connection, namespace
        self._statements = statements("switches")

    def turn(self, queue: str | None, *, is_on: bool, by: str, reason: str = "") -> Switch:
        """See the port."""
        parameters = {
            "namespace": self._namespace,
            "queue": queue or "",
            "is_on": is_on,
            "by": by,
            "reason": reason,
            "waker": waker(self._namespace, queue or ""),
        }
        (row,) = self._connection.fetch(self._statements["turn"], parameters)
        return _decode(row)

    def list(self) -> Sequence[Switch]:
        """See the port."""
        rows = self._connection.fetch(self._statements["list"], {"namespace": self._namespace})
        return [_decode(row) for row in rows]


def _decode(row: Row) -> Switch:
    queue, is_on, changed_at, by, reason = row
    return Switch(queue=queue or None, is_on=is_on, changed_at=changed_at.astimezone(UTC), changed_by=by, reason=reason)
