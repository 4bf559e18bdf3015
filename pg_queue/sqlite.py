"""What the queue's tables need of SQLite that PostgreSQL has in the database: two functions, for each connection.

Columns name them as their defaults, so a program that knows nothing of them reads the file, and is refused
("unknown function") where it inserts a message without an id and a sequence of its own.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import Any

from pg_queue.uuid7 import uuid7

_lock = threading.Lock()
_last_number = 0


def add_functions(connection: sqlite3.Connection) -> None:
    """Teach a raw connection `pg_queue_uuid7()` and `nextval(name)`."""
    connection.create_function("pg_queue_uuid7", 0, lambda: uuid7().hex)  # as Django's UUIDField keeps one there
    connection.create_function("nextval", 1, lambda _name: next_number())


def add_functions_when_connected(*, connection: Any, **_: object) -> None:
    """The `connection_created` receiver: acts on connections to SQLite."""
    if connection.vendor == "sqlite":
        add_functions(connection.connection)


def next_number() -> int:
    """A number larger than each one before: in this process strictly, among the machine's processes by its clock.

    PostgreSQL's sequence promises no more among sessions, each of which takes a block of numbers.
    """
    global _last_number
    with _lock:
        _last_number = max(_last_number + 1, time.time_ns())
        return _last_number
