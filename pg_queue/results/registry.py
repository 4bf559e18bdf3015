"""The project's store of results, by `PG_QUEUE["RESULTS"]`."""

from __future__ import annotations

from functools import cache

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from pg_queue.errors import Configuration
from pg_queue.results.ports import ResultStore
from pg_queue.settings import queue_settings

BACKENDS = {
    "database": "pg_queue.results.database.DatabaseResults",
    "redis": "pg_queue.results.redis.RedisResults",
}


@cache
def result_store() -> ResultStore | None:
    """The store that `PG_QUEUE["RESULTS"]` names; None where results stay in the queue's own rows.

    A class given by its dotted path is called with the `QueueSettings`. Raises: Configuration.
    """
    conf = queue_settings()
    if conf.results is None:
        return None
    path = BACKENDS.get(conf.results.backend, conf.results.backend)
    try:
        backend = import_string(path)
    except ImportError as error:
        raise Configuration(
            f"PG_QUEUE['RESULTS']['BACKEND']: expected 'database', 'redis' or the dotted path of a class, "
            f"got: {conf.results.backend!r} ({error})"
        ) from error
    store: ResultStore = backend(conf)
    return store


def _forget(*, setting: str, **_: object) -> None:
    if setting in {"PG_QUEUE", "DATABASES", "INSTALLED_APPS"}:
        result_store.cache_clear()


setting_changed.connect(_forget, dispatch_uid="pg_queue.results")
