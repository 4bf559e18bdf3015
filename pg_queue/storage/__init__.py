"""Where messages live. `store()` is the project's one; the contract is `pg_queue.ports.QueueStore`."""

from __future__ import annotations

from functools import cache

from django.core.signals import setting_changed
from django.db import connections

from pg_queue.errors import Configuration
from pg_queue.ports import QueueStore
from pg_queue.settings import queue_settings


@cache
def store() -> QueueStore:
    """The store that `PG_QUEUE` names. Raises `Configuration` when its database is not PostgreSQL."""
    from pg_queue.storage.postgres import PostgresStore

    conf = queue_settings()
    vendor = connections[conf.database].vendor
    if vendor != "postgresql":
        raise Configuration(
            f"PG_QUEUE['DATABASE']: expected the alias of a PostgreSQL database, got: {conf.database!r}, "
            f"whose engine is {vendor}"
        )
    return PostgresStore(conf)


def _forget(*, setting: str, **_: object) -> None:
    if setting in {"PG_QUEUE", "DATABASES"}:
        store.cache_clear()


setting_changed.connect(_forget, dispatch_uid="pg_queue.storage")
