"""LISTEN on a direct session. NOTIFY names a namespace and a queue, and is delivered when its transaction commits."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import psycopg

from pg_queue.errors import DirectConnectionRequired
from pg_queue.session import direct_connection
from pg_queue.sql import statements
from pg_queue.storage.rows import waker

logger = logging.getLogger(__name__)

_LISTEN = statements("messages")["listen"]
RECONNECT_SECONDS = 5.0


class PostgresListener:
    """Implements `pg_queue.ports.Listener`."""

    def __init__(self, alias: str, namespace: str, queues: Sequence[str]) -> None:
        self._alias = alias
        self._awaited = {waker(namespace), *(waker(namespace, queue) for queue in queues)}
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._retry_at = 0.0
        self._is_refused = False

    def fileno(self) -> int | None:
        """See the port."""
        return None if self._connection is None else self._connection.fileno()

    def connect(self) -> bool:
        """See the port. At most one attempt in `RECONNECT_SECONDS`; none after a proxy that shares sessions."""
        if self._connection is not None or self._is_refused or time.monotonic() < self._retry_at:
            return False
        self._retry_at = time.monotonic() + RECONNECT_SECONDS
        try:
            connection = direct_connection("downbeat worker listen", alias=self._alias)
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
        """See the port. A session that was lost may have missed something, so that is heard too."""
        if self._connection is None:
            return False
        try:
            return any([notice.payload in self._awaited for notice in self._connection.notifies(timeout=0)])
        except psycopg.Error as error:
            logger.warning("worker.listen_lost the worker polls meanwhile; %s", str(error).strip())
            self.close()
            return True

    def close(self) -> None:
        """See the port."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
