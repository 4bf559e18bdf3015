"""How soon another scheduler fires when the leader is killed, frozen or cut off, and whether the ledger adds up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

import psycopg

from benchmarks.databases import empty
from benchmarks.services import add_intervals, clock, one, poll, schedulers
from tests.processes import ProcessDatabase, RunningProcess

DUE_PER_SECOND = 20
"""Something is due every 50 ms, so that the wait for the next due instant hardly counts."""
WRITTEN = "SELECT count(*) FROM pg_queue_message"
UNLISTED = """
    SELECT coalesce(sum(expected - listed), 0) FROM (
        SELECT round(extract(epoch FROM max(coalesce(span_end, scheduled_for)) - min(scheduled_for))) + 1 AS expected,
               sum(occurrences) AS listed
        FROM scheduler_schedulerun GROUP BY schedule_id
    ) AS per_schedule
"""
SURPLUS = f"SELECT ({WRITTEN}) - (SELECT count(*) FROM scheduler_schedulerun WHERE fired_at IS NOT NULL)"
TERM = "SELECT term FROM pg_queue_leader WHERE name = 'scheduler'"


class Proxy:
    """Forwards TCP to the database, until `cut`: from then on nothing passes, and nobody is told.

    Harder than most partitions: keepalives are still answered, by this machine's own kernel.
    """

    def __init__(self, url: str) -> None:
        """`url` names the database by host and port."""
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._is_cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        login = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self._listener.getsockname()[1]}"))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Let nothing through any more, in either direction."""
        self._is_cut.set()

    def close(self) -> None:
        """Close everything."""
        self._is_cut.set()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._is_cut.is_set():
                    return
                sink.sendall(data)
            if not self._is_cut.is_set():
                sink.shutdown(socket.SHUT_WR)


def killed(database: ProcessDatabase, session: psycopg.Connection) -> dict[str, float]:
    """SIGKILL."""
    return _measure(database, session, lambda leader: leader.kill())


def frozen(database: ProcessDatabase, session: psycopg.Connection) -> dict[str, float]:
    """SIGSTOP."""
    return _measure(database, session, lambda leader: leader.freeze())


def partitioned(database: ProcessDatabase, session: psycopg.Connection) -> dict[str, float]:
    """The leader's connections carry nothing any more."""
    with _proxy(database.url) as proxy:
        return _measure(database, session, lambda leader: proxy.cut(), leaders_url=proxy.url)


@contextmanager
def _proxy(url: str) -> Iterator[Proxy]:
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


def _measure(
    database: ProcessDatabase,
    session: psycopg.Connection,
    end: Callable[[RunningProcess], None],
    *,
    leaders_url: str | None = None,
) -> dict[str, float]:
    """Seconds from the leader's end to the next fire; occurrences that the ledger does not list; surplus messages."""
    empty(session)
    with schedulers(database, 2, leaders_url=leaders_url) as (leader, _):
        add_intervals(session, clock(session), DUE_PER_SECOND)
        poll(lambda: one(session, WRITTEN) > 2 * DUE_PER_SECOND, timeout=30)
        term = one(session, TERM)
        ended = time.monotonic()
        end(leader)
        later = f"SELECT count(*) FROM scheduler_schedulerun WHERE fired_at IS NOT NULL AND term > {term}"
        poll(lambda: one(session, later) > 0, timeout=60)
        seconds = time.monotonic() - ended
        poll(lambda: one(session, later) > 3 * DUE_PER_SECOND, timeout=60)
    return {"seconds": seconds, "lost": one(session, UNLISTED), "twice": one(session, SURPLUS)}
