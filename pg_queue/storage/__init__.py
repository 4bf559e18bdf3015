"""Where messages live: `store(alias)` is one of `PG_QUEUE["STORES"]`; the contract is `pg_queue.ports.QueueStore`.

A backend is a class that is made with `(QueueSettings, StoreSettings)`. Its module is imported when its store is first
asked for, so a driver that is not used need not be installed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, cast

from django.core.signals import setting_changed
from django.db import connections
from django.utils.module_loading import import_string

from pg_queue.errors import Configuration
from pg_queue.ports import QueueStore
from pg_queue.settings import QueueSettings, StoreSettings, queue_settings

Backend = Callable[[QueueSettings, StoreSettings], QueueStore]

BACKENDS = {
    "postgres": "pg_queue.storage.postgres.PostgresStore",
    "sqlite": "pg_queue.storage.sqlite.SqliteStore",
    "redis": "pg_queue.storage.redis.RedisStore",
    "mongodb": "pg_queue.storage.mongodb.MongoStore",
}
"""The backends that have a name; any other is named by the dotted path of its class."""

if TYPE_CHECKING:  # that each keeps the contract's signatures
    from pg_queue.storage.mongodb import MongoStore
    from pg_queue.storage.postgres import PostgresStore
    from pg_queue.storage.redis import RedisStore
    from pg_queue.storage.sqlite import SqliteStore

    _KEPT_BY: tuple[Backend, ...] = (MongoStore, PostgresStore, RedisStore, SqliteStore)

VENDORS = {"postgresql": "postgres", "sqlite": "sqlite"}
"""The backend of a Django database, by its vendor."""


@cache
def store(alias: str = "default") -> QueueStore:
    """The store of this alias. Raises: Configuration where there is none, or it cannot be made."""
    conf = queue_settings()
    try:
        place = conf.places[alias]
    except KeyError:
        known = ", ".join(sorted(conf.places))
        raise Configuration(f"PG_QUEUE['STORES']: expected an alias among {known}, got: {alias!r}") from None
    return _backend(place)(conf, place)


def _backend(place: StoreSettings) -> Backend:
    name = place.backend or _backend_of_database(place)
    path = BACKENDS.get(name, name)
    try:
        return cast(Backend, import_string(path))
    except ImportError as error:
        expected = f"one of {', '.join(sorted(BACKENDS))}, or the dotted path of a class"
        raise place.wrong("BACKEND", expected, f"{name!r} ({error})") from error


def _backend_of_database(place: StoreSettings) -> str:
    vendor = connections[place.database].vendor
    if vendor not in VENDORS:
        raise Configuration(
            f"PG_QUEUE['DATABASE']: expected the alias of a database of {' or '.join(sorted(VENDORS))}, "
            f"got: {place.database!r}, whose engine is {vendor}"
        )
    return VENDORS[vendor]


def _forget(*, setting: str, **_: object) -> None:
    if setting in {"PG_QUEUE", "DATABASES"}:
        store.cache_clear()


setting_changed.connect(_forget, dispatch_uid="pg_queue.storage")
