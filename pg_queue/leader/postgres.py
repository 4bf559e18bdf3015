"""Standing for election, and leading, on PostgreSQL. The protocol is in the package's docstring."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from pg_queue.errors import LeadershipLost
from pg_queue.leader.contract import BATCH_SECONDS, Election, Leadership, Standing
from pg_queue.session import Session, direct_connection
from pg_queue.sql import statements

_SQL, _SESSIONS = statements("leader"), statements("sessions")

STALE_SECONDS = 10.0
"""A stamp older than this is that of a leader which the server's own timeouts failed to end."""
# Long, because each round costs an idle standby a millisecond of CPU; below PostgreSQL's `deadlock_timeout` (1 s), past
# which a wait is searched for deadlocks and, with `log_lock_waits`, logged.
_WAIT_MILLISECONDS = 900
_TIMEOUT = "5s"

SESSION_SETTINGS = {
    "idle_session_timeout": _TIMEOUT,
    "idle_in_transaction_session_timeout": _TIMEOUT,
    "statement_timeout": _TIMEOUT,
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": _TIMEOUT,
    "lock_timeout": f"{_WAIT_MILLISECONDS}ms",
    "TimeZone": "UTC",
    "default_transaction_isolation": "read committed",
}
"""What ends the session of a leader that no longer speaks, from the server's side and without superuser; and what the
database or the role may have set otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresLeadership(Leadership):
    """A term on the session that holds the advisory lock."""

    session: Session
    """Raw psycopg, autocommit; whatever only the leader may do is done in `transaction()` on it."""

    def stamp(self) -> datetime:
        """See the contract. In a transaction, each statement after it may take `BATCH_SECONDS`."""
        parameters = {"name": self.name, "term": self.term, "batch_timeout": f"{BATCH_SECONDS * 1000:.0f}ms"}
        row = self.session.execute(_SQL["stamp"], parameters).fetchone()
        if row is None:
            raise LeadershipLost(f"{self.name}: expected to lead in term {self.term}, got: another term or session")
        stamped_at: datetime = row[0]
        return stamped_at

    @contextmanager
    def transaction(self) -> Iterator[datetime]:
        """See the contract: a statement that is cut off raises `psycopg.errors.QueryCanceled`."""
        with self.session.transaction():
            yield self.stamp()

    def resign(self) -> None:
        """See the contract."""
        with suppress(psycopg.Error):
            self.session.execute(_SQL["resign"], {"name": self.name, "term": self.term})
            self.session.execute(_SQL["unlock"], {"key": lock_key(self.name)})
        self.close()

    def close(self) -> None:
        """Abandon the term: the server rolls back and unlocks."""
        self.session.close()


@dataclass(slots=True, kw_only=True)
class PostgresElection(Election):
    """Stands in line for the advisory lock."""

    connect: Callable[[], Session] | None = None
    """Opens the session that waits and then leads; None: `direct_connection`."""
    stale_seconds: float = STALE_SECONDS
    _session: Session | None = field(default=None, init=False)

    def stand(self) -> PostgresLeadership | None:
        """See the contract: the place in the lock's queue is soon taken again in the next round."""
        try:
            session = self._open()
            session.execute(sql.SQL(_SQL["wait_for_lock"]).format(key=sql.Literal(lock_key(self.name))), prepare=False)
            if self._read_standing(session):
                return self._begin_term(session)
            self._terminate_stale(session)
            return None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See the contract."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _open(self) -> Session:
        if self._session is None:
            self._session = (self.connect or self._connect_directly)()
            for name, value in SESSION_SETTINGS.items():
                self._session.execute(_SESSIONS["set"], {"name": name, "value": value})
        return self._session

    def _connect_directly(self) -> Session:
        return direct_connection(f"downbeat leader {self.name}")

    def _read_standing(self, session: Session) -> bool:
        with session.cursor(row_factory=class_row(Standing)) as cursor:
            self.standing = cursor.execute(_SQL["read_standing"], self._parameters()).fetchone()
        return self.standing is not None and self.standing.is_holder

    def _terminate_stale(self, session: Session) -> None:
        age = self.standing.stamp_age_seconds if self.standing else None
        if age is not None and age > self.stale_seconds:
            session.execute(_SQL["terminate_stale"], self._parameters())

    def _begin_term(self, session: Session) -> PostgresLeadership:
        session.execute(_SQL["lift_lock_timeout"])
        row = session.execute(_SQL["take_over"], self._parameters()).fetchone()
        assert row is not None
        self._session = None
        return PostgresLeadership(
            name=self.name, session=session, term=row[0], since=row[1], previous_heartbeat_at=row[2]
        )

    def _parameters(self) -> dict[str, Any]:
        key = lock_key(self.name) & (2**64 - 1)
        return {
            "name": self.name,
            "host": socket.gethostname(),
            "process_id": os.getpid(),
            "key_high": key >> 32,
            "key_low": key & (2**32 - 1),
            "stale_seconds": self.stale_seconds,
        }


def lock_key(name: str) -> int:
    """The advisory lock's key of an election: 64 bits, signed, the same in every process."""
    digest = hashlib.sha256(f"pg_queue.leader:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
