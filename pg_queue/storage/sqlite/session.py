"""Statements on a Django connection to SQLite, and transactions that wait for the file's one write lock.

They run on Django's own connection, so they belong to the transaction that the caller has open there; past Django's
cursor, whose work on the text and on the parameters they do not need.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.db import OperationalError, connections, transaction

from pg_queue.sql import statements
from pg_queue.sqlite import as_instant, as_text

Row = Sequence[Any]
T = TypeVar("T")

BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
"""Another connection was in the way, and nothing was done: by the primary result code (sqlite.org/rescode.html)."""

DEFAULT_TIMEOUT_SECONDS = 5.0
"""`sqlite3.connect`'s own."""

_NOW = statements("messages", "sqlite")["now"]


class Session:
    """The connection of one alias, in whichever thread it is used."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def fetch(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        """All rows of a statement. Raises: Django's database errors."""
        return self._do(lambda raw: raw.execute(statement, parameters).fetchall())

    def each(self, statement: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """The statement once for each of `rows`; it returns nothing. Raises: as `fetch`."""
        self._do(lambda raw: raw.executemany(statement, rows))

    def count(self, statement: str, parameters: Mapping[str, Any]) -> int:
        """How many rows a statement has changed. Raises: as `fetch`."""
        return self._do(lambda raw: raw.execute(statement, parameters).rowcount)

    def now(self) -> datetime:
        """The store's clock. Read in a transaction that writes, it is not before any that was committed."""
        return as_instant(self.fetch(_NOW, {})[0][0])

    def write(self, action: Callable[[datetime], T]) -> T:
        """Do `action(now)` in the caller's transaction, or in one of its own that has the write lock from its start.

        One of its own is done again while another writer is in the way, for about as long as one waits for the lock.
        Raises: Django's `OperationalError` after that; what `action` raises.
        """
        if connections[self.alias].in_atomic_block:
            with transaction.atomic(using=self.alias, savepoint=False):
                return action(self.now())
        give_up_at = time.monotonic() + self._timeout_seconds()
        while True:
            try:
                with transaction.atomic(using=self.alias):
                    return action(self.now())
            except OperationalError as error:
                if not is_busy(error) or time.monotonic() >= give_up_at:
                    raise
            time.sleep(random.uniform(0.002, 0.02))

    def _do(self, action: Callable[[sqlite3.Connection], T]) -> T:
        connection = connections[self.alias]
        connection.ensure_connection()
        connection.validate_thread_sharing()
        connection.validate_no_broken_transaction()
        with connection.wrap_database_errors:
            return action(connection.connection)

    def _timeout_seconds(self) -> float:
        return float(connections[self.alias].settings_dict["OPTIONS"].get("timeout", DEFAULT_TIMEOUT_SECONDS))


def is_busy(error: OperationalError) -> bool:
    """Whether another connection was in the way."""
    return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in BUSY


def seconds_until(text: str, now: datetime) -> float | None:
    """Seconds until the instant that a column holds, 0 when it has passed; None where nobody can read it."""
    if text <= as_text(now):
        return 0.0
    try:
        return (as_instant(text) - now).total_seconds()
    except ValueError:
        return None


def as_instant_or_none(text: str | None) -> datetime | None:
    """The aware instant that a column holds, where it may hold none."""
    return None if text is None else as_instant(text)


def load_id_or_none(stored: str | None) -> UUID | None:
    """An id as Django's fields keep it there, where there may be none."""
    return None if stored is None else UUID(stored)


def dump_ids(ids: Iterable[UUID]) -> str:
    """Ids as a JSON array of what Django's fields keep."""
    return json.dumps([one.hex for one in ids])


def dump_pairs(pairs: Iterable[tuple[UUID, UUID]]) -> str:
    """Pairs of ids as a JSON array of arrays."""
    return json.dumps([(one.hex, other.hex) for one, other in pairs])


def dump_json(value: Any) -> str:
    """A value as JSON text, any mapping as an object."""
    return _encode(value)


def after(instant: datetime, delay: timedelta | float) -> str:
    """So long after an instant, to be stored."""
    return as_text(instant + (delay if isinstance(delay, timedelta) else timedelta(seconds=delay)))


_encode = json.JSONEncoder(default=dict, separators=(",", ":")).encode
