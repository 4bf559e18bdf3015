"""What can be known to be wrong with an entry of `TASKS` before a task is enqueued."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.utils.connection import ConnectionDoesNotExist

from pg_queue.domain import Capability
from pg_queue.errors import CapabilityMissing, Configuration, InvalidMessage
from pg_queue.storage import store
from pg_queue.tasks.django import resolution
from pg_queue.validation import check_queue

_HOWTO = "docs/howto/django-tasks.md"


def check_backend(backend: Any) -> Iterable[CheckMessage]:
    """E020: the app is not installed. E021: `OPTIONS` is wrong. E022: a name in `QUEUES` is.

    W023: the store cannot join a transaction. W024: a worker would not find a task.
    """
    if not apps.is_installed("pg_queue"):
        yield Error(
            f"TASKS[{backend.alias!r}]: expected the app pg_queue among INSTALLED_APPS, which {_name(backend)} needs",
            hint="Add 'pg_queue' to INSTALLED_APPS, and migrate.",
            id="pg_queue.E020",
        )
        return
    yield from _check_store(backend)
    yield from _check_queues(backend)
    for path in resolution.out_of_scope():
        yield Warning(
            f"task {path}: expected a function in a module of an installed app, which a worker would find",
            hint=f"Add its app to INSTALLED_APPS, or its module to OPTIONS['MODULES']: {_HOWTO}.",
            id="pg_queue.W024",
        )


def _check_store(backend: Any) -> Iterable[CheckMessage]:
    try:
        options = backend.queue_options
        place = store(options.store)
        if options.namespace is not None:
            place = place.within(options.namespace)
    except (Configuration, CapabilityMissing, ConnectionDoesNotExist) as error:
        yield Error(
            f"TASKS[{backend.alias!r}]: {error}", hint=f"{_HOWTO} lists every key of OPTIONS.", id="pg_queue.E021"
        )
        return
    if Capability.TRANSACTIONS not in place.capabilities:
        yield Warning(
            f"TASKS[{backend.alias!r}]: expected a store that joins the caller's transaction, got: {options.store!r}, "
            "where a task is enqueued at once, also when the transaction is rolled back",
            hint="Enqueue from transaction.on_commit, or name another store.",
            id="pg_queue.W023",
        )


def _check_queues(backend: Any) -> Iterable[CheckMessage]:
    for name in sorted(backend.queues, key=str):
        try:
            check_queue(name)
        except InvalidMessage as error:
            yield Error(
                f"TASKS[{backend.alias!r}]['QUEUES']: expected names of {error.expected}, got: {name!r}",
                hint="A worker's --queues takes no other name.",
                id="pg_queue.E022",
            )


def _name(backend: Any) -> str:
    return type(backend).__name__
