"""What a store raises where its server, or the connection to it, fails: see `pg_queue.ports`."""

from __future__ import annotations

from django.db import DatabaseError, InterfaceError

from pg_queue.errors import StoreUnavailable

UNAVAILABLE: tuple[type[Exception], ...] = (DatabaseError, InterfaceError, StoreUnavailable)
"""Of any store. Not the connection's trouble alone: what waits to be told to the store must outlive any of them."""
