"""An operator's switch per queue, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pg_queue.domain import Switch
from pg_queue.sql import statements
from pg_queue.sqlite import as_instant, as_text
from pg_queue.storage.sqlite.session import Session


class SqliteSwitches:
    """Implements `pg_queue.ports.Switches`."""

    def __init__(self, session: Session, namespace: str) -> None:
        self._session, self._namespace = session, namespace
        self._statements = statements("switches", "sqlite")

    def turn(self, queue: str | None, *, is_on: bool, by: str, reason: str = "") -> Switch:
        """See the port."""

        def turn(now: datetime) -> Switch:
            row = {"namespace": self._namespace, "queue": queue or "", "is_on": is_on, "by": by, "reason": reason}
            self._session.count(self._statements["turn"], row | {"now": as_text(now)})
            return Switch(queue=queue, is_on=is_on, changed_at=now, changed_by=by, reason=reason)

        return self._session.write(turn)

    def list(self) -> Sequence[Switch]:
        """See the port."""
        rows = self._session.fetch(self._statements["list"], {"namespace": self._namespace})
        return [
            Switch(
                queue=row[0] or None,
                is_on=bool(row[1]),
                changed_at=as_instant(row[2]),
                changed_by=row[3],
                reason=row[4],
            )
            for row in rows
        ]
