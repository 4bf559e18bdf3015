"""What a leader looks out for between two passes: what is due next, a change to a schedule, a request to stop."""

from __future__ import annotations

import select
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any, Protocol

import psycopg

from pg_queue.api import Leadership, PostgresLeadership, SqliteLeadership, as_instant
from scheduler.statements import statements

_LOOK_SECONDS = 0.1
"""How often it is looked whether somebody has written to a file of SQLite, which tells nobody."""


class Stop(Protocol):
    """A request to stop: how often it was made, and a descriptor that becomes readable with it."""

    count: int

    def fileno(self) -> int:
        """Readable once a stop was asked for."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; True when a stop was asked for."""
        ...


class Lookout(ABC):
    """For one term, on the leader's session. Not safe between threads."""

    @abstractmethod
    def outlook(self) -> tuple[float | None, bool]:
        """Seconds until something is due, by the database's clock (None: nothing is planned), and whether a schedule
        waits for the end of its run. Changes that came before are forgotten: the answer knows them."""

    @abstractmethod
    def wait(self, seconds: float) -> bool:
        """Wait at most so long; True when there is a reason to look: a change since `outlook`, or a stop.

        Raises: one of `SESSION_ERRORS` when the session has ended.
        """


def make_lookout(leadership: Leadership, stop: Stop) -> Lookout:
    """The lookout of this leadership's database."""
    if isinstance(leadership, SqliteLeadership):
        return SqliteLookout(leadership, stop)
    assert isinstance(leadership, PostgresLeadership)
    return PostgresLookout(leadership, stop)


class PostgresLookout(Lookout):
    """Hears of changes by NOTIFY, on the session itself."""

    def __init__(self, leadership: PostgresLeadership, stop: Stop) -> None:
        self._session, self._stop = leadership.session, stop
        self._is_changed = False
        self._session.add_notify_handler(self._note_change)
        self._session.execute(statements("schedules")["listen"])

    def outlook(self) -> tuple[float | None, bool]:
        """See the contract."""
        self._is_changed = False
        row = self._session.execute(statements("tick")["next_due"]).fetchone()
        return (None, False) if row is None else (row[0], row[1])

    def wait(self, seconds: float) -> bool:
        """See the contract."""
        if not self._is_changed and not self._stop.count and not self._has_notifications():
            readable, _, _ = select.select([self._session.fileno(), self._stop.fileno()], [], [], seconds)
            if self._session.fileno() in readable:
                self._session.pgconn.consume_input()  # raises when the server has ended the session
                self._has_notifications()
        return self._is_changed or self._stop.count > 0

    def _has_notifications(self) -> bool:
        """Those that libpq has read already: the socket would not tell of them."""
        while self._session.pgconn.notifies():
            self._is_changed = True
        return self._is_changed

    def _note_change(self, notification: psycopg.Notify) -> None:
        self._is_changed = True


class SqliteLookout(Lookout):
    """Looks ten times a second whether somebody else has committed: a number in shared memory, and no lock."""

    def __init__(self, leadership: SqliteLeadership, stop: Stop) -> None:
        self._session, self._stop = leadership.session, stop
        self._sql = statements("tick", "sqlite")
        self._version = -1

    def outlook(self) -> tuple[float | None, bool]:
        """See the contract."""
        self._version = self._read_version()
        next_run_at, has_held = self._session.execute(self._sql["next_due"]).fetchone()
        return None if next_run_at is None else _seconds_until(next_run_at), bool(has_held)

    def wait(self, seconds: float) -> bool:
        """See the contract."""
        stop_at = time.monotonic() + seconds
        while not self._stop.count and self._read_version() == self._version:
            left = stop_at - time.monotonic()
            if left <= 0:
                return False
            self._stop.wait(min(left, _LOOK_SECONDS))
        return True

    def _read_version(self) -> int:
        return int(self._session.execute(self._sql["version"]).fetchone()[0])


def _seconds_until(next_run_at: Any) -> float:
    """0 also of what is no instant: nobody can say what comes after it, so it is looked again, as for what is stalled.

    The tick sets it aside when it comes to it.
    """
    try:
        return (as_instant(next_run_at) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
