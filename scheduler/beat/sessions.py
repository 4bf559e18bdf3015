"""A database session of its own for a Beat process, which waits for nothing for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from pg_queue.api import direct_connection

LOCK_SECONDS = 1
STATEMENT_SECONDS = 5

Session = psycopg.Connection[tuple[Any, ...]]


class BoundedSession:
    """Opened when it is first needed, and again after an error. Not safe between threads.

    Statements wait at most 1 s for a lock and run at most 5 s, connecting takes at most 5 s, and a server that is gone
    is noticed within seconds.
    """

    def __init__(self, name: str) -> None:
        """`name` is the session's `application_name`."""
        self._name = name
        self._session: Session | None = None

    @contextmanager
    def open(self) -> Iterator[Session]:
        """The session, in autocommit. Whatever ends the block by raising ends the session too.

        Raises: psycopg.Error, and what `pg_queue.api.direct_connection` raises.
        """
        if self._session is None or self._session.closed:
            self._session = direct_connection(self._name, settings=_BOUNDS)
        try:
            yield self._session
        except BaseException:  # a SystemExit in the middle of a statement leaves it in doubt
            self.close()
            raise

    def close(self) -> None:
        """End it, if it is open."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


_BOUNDS = {
    "lock_timeout": f"{LOCK_SECONDS}s",
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS}s",
}
