"""Buckets of tokens, as rows. What is read here holds until it is written: the write lock is held."""

from __future__ import annotations

from datetime import datetime

from pg_queue.domain import Grant, RateLimit
from pg_queue.sql import statements
from pg_queue.sqlite import as_instant, as_text
from pg_queue.storage.instants import as_microseconds, microseconds, to_instant
from pg_queue.storage.sqlite.session import Session


class SqliteLimits:
    """Implements `pg_queue.ports.Limits`."""

    def __init__(self, session: Session, namespace: str) -> None:
        self._session, self._namespace = session, namespace
        self._statements = statements("limits", "sqlite")

    def take(self, name: str, limit: RateLimit, *, wanted: int) -> Grant:
        """See the port."""

        def take(now: datetime) -> Grant:
            at = as_microseconds(now)
            count, full_at = limit.spend(self._full_at(name, at), now=at, wanted=wanted)
            self._note(name, full_at, now, count)
            return Grant(count=count, wait_seconds=limit.wait_seconds(full_at, now=at))

        return self._session.write(take)

    def give_back(self, name: str, limit: RateLimit, *, count: int) -> None:
        """See the port."""

        def give_back(now: datetime) -> None:
            full_at = self._full_at(name, as_microseconds(now)) - microseconds(count * limit.interval_seconds)
            self._note(name, full_at, now, 0)

        self._session.write(give_back)

    def _full_at(self, name: str, now: int) -> int:
        rows = self._session.fetch(self._statements["look"], {"namespace": self._namespace, "name": name})
        return as_microseconds(as_instant(rows[0][0])) if rows else now

    def _note(self, name: str, full_at: int, now: datetime, granted: int) -> None:
        row = {"namespace": self._namespace, "name": name, "full_at": as_text(to_instant(full_at))}
        self._session.count(self._statements["note"], row | {"now": as_text(now), "granted": granted})
