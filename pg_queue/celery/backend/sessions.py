"""A few sessions of one process, shared by its threads or greenlets; each is one caller's while it is in use."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from pg_queue.session import Session

MOST_SESSIONS = 10
"""Open at once in one process; who comes when all are in use waits."""

LOST_CONNECTION = (psycopg.OperationalError, psycopg.InterfaceError)
"""What psycopg raises when the server is away, ends sessions or has no room: the statement may be done again."""


class Sessions:
    """Opened when they are needed, and kept. A child process opens its own, and leaves its parent's alone."""

    def __init__(self, connect: Callable[[], Session], most: int = MOST_SESSIONS) -> None:
        self._connect, self._most = connect, most
        self._begin()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session for a statement, or for a transaction of the caller's. Raises: what psycopg raises.

        One that was lost is closed, and those that lie idle with it: what cut it off may have cut off all. One that
        something cut off in the middle, such as Celery's soft time limit, is closed too.
        """
        if self._process_id != os.getpid():
            self._begin()
        with self._room:
            session = self._take()
            try:
                yield session
            except LOST_CONNECTION:
                session.close()
                self._close_idle()
                raise
            except psycopg.Error:
                self._keep(session)
                raise
            except BaseException:
                session.close()
                raise
            self._keep(session)

    def close(self) -> None:
        """Close those that lie idle; the next caller opens another."""
        if self._process_id == os.getpid():
            self._close_idle()

    def _begin(self) -> None:
        # The parent's sessions are neither used nor closed here: closing one tells its server so.
        self._process_id = os.getpid()
        self._room = threading.BoundedSemaphore(self._most)
        self._idle: list[Session] = []

    def _keep(self, session: Session) -> None:
        if session.info.transaction_status is psycopg.pq.TransactionStatus.IDLE:
            self._idle.append(session)
        else:
            session.close()

    def _take(self) -> Session:
        while True:
            try:
                session = self._idle.pop()
            except IndexError:
                session = self._connect()
                session.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
                return session
            if not session.closed:
                return session

    def _close_idle(self) -> None:
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return
