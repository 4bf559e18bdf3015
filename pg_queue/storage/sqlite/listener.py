"""Hears of commits by watching a number that SQLite keeps, since a file calls nobody.

`PRAGMA data_version` differs once another connection, of whatever process, has committed a change (sqlite.org,
"Pragma statements"). A thread asks for it every few milliseconds, and only then looks whether something is due.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from django.db import connections

from pg_queue.sql import statements
from pg_queue.sqlite import as_instant, raw_connection
from pg_queue.storage.sqlite.session import seconds_until

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.02
"""How often the number is asked for. That costs some microseconds, the waking up for it ten times as much."""
RECONNECT_SECONDS = 5.0


class SqliteListener:
    """Implements `pg_queue.ports.Listener`: the thread writes into a pipe whose other end is waited for."""

    def __init__(self, alias: str, namespace: str, queues: Sequence[str]) -> None:
        self._alias, self._namespace, self._queues = alias, namespace, tuple(queues)
        self._read: int | None = None
        self._watcher: Watcher | None = None
        self._retry_at = 0.0

    def fileno(self) -> int | None:
        """See the port."""
        return self._read

    def connect(self) -> bool:
        """See the port. Never for a database in memory, which other connections cannot see."""
        if self._read is not None or time.monotonic() < self._retry_at:
            return False
        self._retry_at = time.monotonic() + RECONNECT_SECONDS
        database = connections[self._alias]
        if database.is_in_memory_db():  # type: ignore[attr-defined]
            return False
        try:
            connection = raw_connection(self._alias)
            connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            logger.warning("worker.listen_failed the worker polls meanwhile; %s", error)
            return False
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(write, False)
        self._watcher = Watcher(connection, write, self._namespace, self._queues)
        self._watcher.start()
        return True

    def hear(self) -> bool:
        """See the port."""
        if self._read is None:
            return False
        try:
            if not os.read(self._read, 4096):
                logger.warning("worker.listen_lost the worker polls meanwhile")
                self.close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """See the port. Waits for the thread."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        if self._read is not None:
            os.close(self._read)
            self._read = None


class Watcher:
    """The thread. It owns the connection and the pipe's end, and closes both when it ends, for whatever reason."""

    def __init__(self, connection: sqlite3.Connection, write: int, namespace: str, queues: Sequence[str]) -> None:
        self._connection, self._write = connection, write
        self._parameters = {"namespace": namespace, "queues": json.dumps(queues)}
        self._statements = statements("messages", "sqlite")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; waits for the end."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._watch()
        except sqlite3.Error:
            logger.warning("worker.watch_failed", exc_info=True)
        finally:
            self._connection.close()
            os.close(self._write)

    def _watch(self) -> None:
        """Write a byte whenever something has become due since the last change: by the change, or with time."""
        version: int | None = None
        wake_at: float | None = None
        while not self._stopping.is_set():
            time.sleep(WATCH_SECONDS)  # an Event's own wait costs twice as much
            ((current,),) = self._connection.execute("PRAGMA data_version")
            if current != version:
                version, wake_at = current, self._next_due_at()
            if wake_at is not None and time.monotonic() >= wake_at:
                wake_at = None
                with suppress(BlockingIOError):  # the pipe is full: it is readable already
                    os.write(self._write, b"!")

    def _next_due_at(self) -> float | None:
        """By the clock of this process that never jumps."""
        ((due_at,),) = self._connection.execute(self._statements["next_due"], self._parameters)
        if due_at is None:
            return None
        ((now,),) = self._connection.execute(self._statements["now"])
        seconds = seconds_until(due_at, as_instant(now))
        return None if seconds is None else time.monotonic() + seconds
