"""SQLite as the queue uses it: connections, transactions and instants, and two functions for each connection.

Columns name the functions as their defaults, so a program that knows nothing of them reads the file, and is refused
("unknown function") where it inserts a message without an id and a sequence of its own.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.db import connections

from pg_queue.uuid7 import uuid7

_lock = threading.Lock()
_last_number = 0
_wrappers: weakref.WeakSet[Any] = weakref.WeakSet()
_across_fork: list[sqlite3.Connection] = []


def add_functions(connection: sqlite3.Connection) -> None:
    """Teach a raw connection `pg_queue_uuid7()` and `nextval(name)`."""
    connection.create_function("pg_queue_uuid7", 0, lambda: uuid7().hex)  # as Django's UUIDField keeps one there
    connection.create_function("nextval", 1, lambda _name: next_number())


def add_functions_when_connected(*, connection: Any, **_: object) -> None:
    """The `connection_created` receiver: acts on connections to SQLite."""
    if connection.vendor == "sqlite":
        add_functions(connection.connection)
        _wrappers.add(connection)


def _hold_connections() -> None:
    """Before a fork: what the child inherits must not be closed there either, as threads that it lacks would have it.

    (sqlite.org, "How To Corrupt An SQLite Database File": a connection may not be carried across a fork, and the child
    may not even close it.)
    """
    _across_fork.extend(one.connection for one in list(_wrappers) if one.connection is not None)


def _forget_connections() -> None:
    """In the child: Django connects anew, outside of any transaction that is the parent's."""
    for wrapper in list(_wrappers):
        if wrapper.connection is not None:
            wrapper.connection = None
            wrapper.in_atomic_block, wrapper.needs_rollback, wrapper.closed_in_transaction = False, False, False
            wrapper.savepoint_ids, wrapper.atomic_blocks, wrapper.run_on_commit = [], [], []


os.register_at_fork(before=_hold_connections, after_in_parent=_across_fork.clear, after_in_child=_forget_connections)


def next_number() -> int:
    """A number larger than each one before: in this process strictly, among the machine's processes by its clock.

    PostgreSQL's sequence promises no more among sessions, each of which takes a block of numbers.
    """
    global _last_number
    with _lock:
        _last_number = max(_last_number + 1, time.time_ns())
        return _last_number


def takes_lock_at_once(alias: str) -> bool:
    """Whether Django begins the transactions of this alias with the write lock, and so with the wait for it."""
    mode = connections[alias].settings_dict["OPTIONS"].get("transaction_mode") or "DEFERRED"
    return str(mode).upper() in {"IMMEDIATE", "EXCLUSIVE"}


def raw_connection(alias: str) -> sqlite3.Connection:
    """A connection of the caller's own to a Django alias, in autocommit, with the alias's options and the functions.

    The caller closes it, and uses it from one thread. Raises: sqlite3.Error.
    """
    wrapper: Any = connections[alias]
    connection: sqlite3.Connection = wrapper.get_new_connection(
        wrapper.get_connection_params() | {"isolation_level": None, "detect_types": 0}
    )
    add_functions(connection)
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction on a raw connection that takes the write lock when it begins; whatever is raised rolls it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # SQLite itself ends it on some errors
            connection.execute("ROLLBACK")


def as_text(instant: datetime) -> str:
    """An aware instant as Django stores one in SQLite: equal instants are equal texts, and later ones are greater."""
    return str(instant.astimezone(UTC).replace(tzinfo=None))


def as_instant(text: str) -> datetime:
    """The aware instant that a column holds, whoever wrote it: Django, or SQLite's own clock (milliseconds)."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
