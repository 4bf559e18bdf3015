"""LISTEN on a direct session: wakes an idle worker in milliseconds. Losing it costs nothing but waiting longer."""

from __future__ import annotations

import logging
import time

import psycopg

from pg_queue.errors import DirectConnectionRequired
from pg_queue.session import direct_connection
from pg_queue.sql import statements

logger = logging.getLogger(__name__)

_LISTEN = statements("messages")["listen"]
RECONNECT_SECONDS = 5.0


class Listener:
    """Hears the names of queues that got messages. Not for more than one thread."""

    def __init__(self, queues: frozenset[str]) -> None:
        self._queues = queues
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._retry_at = 0.0
        self._is_refused = False

    def fileno(self) -> int | None:
        """The session's descriptor, readable when there may be something to hear; None while there is no session."""
        return None if self._connection is None else self._connection.fileno()

    def connect(self) -> bool:
        """Open the session where there is none and it is time to; True when one was opened."""
        if self._connection is not None or self._is_refused or time.monotonic() < self._retry_at:
            return False
        self._retry_at = time.monotonic() + RECONNECT_SECONDS
        try:
            connection = direct_connection("downbeat worker listen")
            connection.execute(_LISTEN)
        except DirectConnectionRequired as error:
            self._is_refused = True
            logger.warning("worker.listen_refused the worker only polls; %s", error)
            return False
        except psycopg.Error as error:
            logger.warning("worker.listen_failed the worker polls meanwhile; %s", str(error).strip())
            return False
        self._connection = connection
        return True

    def hear(self) -> bool:
        """Take what has arrived, without waiting; True when one of the queues was named."""
        if self._connection is None:
            return False
        try:
            return any([notice.payload in self._queues for notice in self._connection.notifies(timeout=0)])
        except psycopg.Error as error:
            logger.warning("worker.listen_lost the worker polls meanwhile; %s", str(error).strip())
            self.close()
            return True

    def close(self) -> None:
        """Give the session up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
