"""Who leads now, as the database says: the supervisor's eye on its schedulers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

# Not `pg_queue.api`: that needs Django set up, which the supervisor does without.
from pg_queue.sql import statements

POLL_SECONDS = 0.5
_LIVING_LEADERS = statements("leader")["living_leaders"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leadership:
    """One election's winner."""

    name: str
    """Of the election."""
    term: int
    pid: int
    """Of the leading process, on `host`."""
    host: str

    @property
    def is_here(self) -> bool:
        """True when the leader runs on this machine, so that its pid means something here."""
        return self.host == socket.gethostname()


class LeaderWatch(threading.Thread):
    """Asks the database twice a second and reports each new term, once. Outlives lost connections."""

    def __init__(self, url: str, report: Callable[[Leadership], None]) -> None:
        """`report` is called in this thread."""
        super().__init__(name="leader-watch", daemon=True)
        self.url = url
        self.report = report
        self._terms: dict[str, int] = {}
        self._is_stopping = threading.Event()

    def run(self) -> None:
        """Poll until `stop`."""
        while not self._is_stopping.is_set():
            try:
                with psycopg.connect(self.url, autocommit=True, connect_timeout=3) as connection:
                    self._poll(connection)
            except psycopg.Error:  # the server restarts, or the tables are not there yet
                self._is_stopping.wait(POLL_SECONDS)

    def stop(self) -> None:
        """End the thread soon; does not wait for it."""
        self._is_stopping.set()

    def _poll(self, connection: psycopg.Connection[Any]) -> None:
        while not self._is_stopping.wait(POLL_SECONDS):
            for name, term, pid, host in connection.execute(_LIVING_LEADERS).fetchall():
                if self._terms.get(name) != term:
                    self._terms[name] = term
                    self.report(Leadership(name=name, term=term, pid=pid, host=host))
