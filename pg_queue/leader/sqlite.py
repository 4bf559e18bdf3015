"""Standing for election, and leading, on SQLite. The protocol is in the package's docstring."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pg_queue.errors import LeadershipLost
from pg_queue.leader.contract import BATCH_SECONDS, Election, Leadership, Standing
from pg_queue.settings import direct_alias
from pg_queue.sql import statements
from pg_queue.sqlite import as_instant, as_text, raw_connection, transaction

_SQL = statements("leader", "sqlite")

LEASE_SECONDS = 5.0
"""A leader that has not stamped for so long may be replaced."""
_WAIT_SECONDS = 0.9
"""How long a round lasts."""
_LOOK_SECONDS = 0.05
"""How often a standby reads the leader row: it hears of no change. A read takes no lock, and some ten microseconds."""
_STEPS_BETWEEN_LOOKS = 100_000
"""Of SQLite's virtual machine, some milliseconds: how often a statement is asked whether its time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteLeadership(Leadership):
    """A term that the leader row holds, on a connection of its own."""

    session: sqlite3.Connection
    """Raw, in autocommit; whatever only the leader may do is done in `transaction()` on it."""

    def stamp(self) -> datetime:
        """See the contract."""
        now = datetime.now(UTC)
        parameters = {"name": self.name, "term": self.term, "now": as_text(now)}
        if self.session.execute(_SQL["stamp"], parameters).rowcount != 1:
            raise LeadershipLost(f"{self.name}: expected to lead in term {self.term}, got: another term")
        return now

    @contextmanager
    def transaction(self) -> Iterator[datetime]:
        """See the contract: a statement that is cut off raises `sqlite3.OperationalError` (SQLITE_INTERRUPT).

        It holds the file's one write lock from its beginning: nobody can take the lead over between stamp and commit.
        """
        with transaction(self.session):
            now = self.stamp()
            with self._time_limit():
                yield now

    def resign(self) -> None:
        """See the contract."""
        with suppress(sqlite3.Error):
            parameters = {"name": self.name, "term": self.term, "now": as_text(datetime.now(UTC))}
            self.session.execute(_SQL["resign"], parameters)
        self.close()

    def close(self) -> None:
        """See the contract."""
        self.session.close()

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        stop_at = time.monotonic() + BATCH_SECONDS
        self.session.set_progress_handler(lambda: time.monotonic() > stop_at, _STEPS_BETWEEN_LOOKS)
        try:
            yield
        finally:
            self.session.set_progress_handler(None, 0)


@dataclass(slots=True, kw_only=True)
class SqliteElection(Election):
    """Waits until the leader row's lease is over."""

    connect: Callable[[], sqlite3.Connection] | None = None
    """Opens the connection that waits and then leads; None: one of its own to the queue's database."""
    lease_seconds: float = LEASE_SECONDS
    _session: sqlite3.Connection | None = field(default=None, init=False)

    def stand(self) -> SqliteLeadership | None:
        """See the contract."""
        try:
            session = self._open()
            stop_at = time.monotonic() + _WAIT_SECONDS
            while (leadership := self._try(session)) is None and time.monotonic() < stop_at:
                time.sleep(_LOOK_SECONDS)
        except BaseException:
            self.close()
            raise
        return leadership

    def close(self) -> None:
        """See the contract."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _open(self) -> sqlite3.Connection:
        if self._session is None:
            self._session = (self.connect or (lambda: raw_connection(direct_alias())))()
        return self._session

    def _try(self, session: sqlite3.Connection) -> SqliteLeadership | None:
        """Take the lead if its lease is over. Reading takes no lock, so that a standby does not hinder the leader."""
        row = session.execute(_SQL["read_leader"], {"name": self.name}).fetchone()
        now = datetime.now(UTC)
        term, host, process_id, heartbeat_at, is_resigned = row or (None, None, None, None, True)
        age = None if heartbeat_at is None else (now - as_instant(heartbeat_at)).total_seconds()
        self.standing = Standing(is_holder=False, term=term, host=host, process_id=process_id, stamp_age_seconds=age)
        # A stamp from the future is one of a clock that was put back: it says nothing.
        if not is_resigned and age is not None and abs(age) <= self.lease_seconds:
            return None
        return self._begin_term(session, now, term, heartbeat_at)

    def _begin_term(
        self, session: sqlite3.Connection, now: datetime, seen_term: int | None, seen_heartbeat_at: str | None
    ) -> SqliteLeadership | None:
        parameters = {
            "name": self.name,
            "host": socket.gethostname(),
            "process_id": os.getpid(),
            "now": as_text(now),
            "seen_term": seen_term,
            "seen_heartbeat_at": seen_heartbeat_at,
        }
        won = session.execute(_SQL["take_over"], parameters).fetchall()
        if not won:
            return None
        [(term, previous)] = won
        self._session = None
        return SqliteLeadership(
            name=self.name,
            session=session,
            term=term,
            since=now,
            previous_heartbeat_at=None if previous is None else as_instant(previous),
        )
