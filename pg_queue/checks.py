"""System checks: what can be known to be wrong before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from pg_queue.errors import CapabilityMissing, Configuration, QueueError
from pg_queue.relay.targets import check_target
from pg_queue.results.registry import result_store
from pg_queue.settings import QueueSettings, queue_settings
from pg_queue.sqlite import takes_lock_at_once
from pg_queue.storage import store
from pg_queue.tasks import declared_tasks


@register
def check_task_hints(app_configs: object = None, **_: Any) -> list[CheckMessage]:
    """E009: a task is to be checked by its type hints, and these cannot be read, or not be checked.

    Of the tasks whose modules are imported by now: a check imports nothing that its project has not.
    """
    return [*_check_hints()]


@register
def check_queue_settings(app_configs: object = None, **_: Any) -> list[CheckMessage]:
    """E001: `PG_QUEUE` is wrong. E002: an alias is unknown. E003: its database is neither PostgreSQL nor SQLite.

    E004: results cannot be kept where `RESULTS` says. E005: a database of SQLite takes the write lock too late.
    E006: a route leads nowhere.
    W007: a store of `STORES` cannot be made here: a process that has no use for it need not have its driver.
    W008: a store's backend is experimental.
    """
    try:
        conf = queue_settings()
    except Configuration as error:
        return [Error(str(error), hint="docs/reference/settings.md lists every key.", id="pg_queue.E001")]
    return [*_check_aliases(conf), *_check_stores(conf), *_check_results(), *_check_routes(conf)]


def _check_hints() -> Iterable[CheckMessage]:
    for info in declared_tasks():
        try:
            if info.checks is not None:
                info.checks.check()
        except Configuration as error:
            hint = "docs/howto/tasks.md#checked-by-type-hints shows which type hints will do."
            yield Error(str(error), hint=hint, id="pg_queue.E009")


def _check_stores(conf: QueueSettings) -> Iterable[CheckMessage]:
    """The backend, its driver and its options; whether a server answers is for whoever uses it to find out."""
    for alias in conf.stores or ():
        try:
            found = store(alias)
        except (Configuration, CapabilityMissing, ConnectionDoesNotExist) as error:
            hint = "docs/reference/settings.md#stores lists the backends and what each needs."
            yield Warning(str(error), hint=hint, id="pg_queue.W007")
            continue
        if getattr(found, "is_experimental", False):  # one of another's backend need not derive from `Capable`
            yield Warning(
                f"PG_QUEUE['STORES'][{alias!r}]: expected a backend that has passed the queue's contract on a live "
                f"server, got: {type(found).__name__}, which is experimental",
                hint="Keep what must not be lost in another store, or run the contract's tests on your server first: "
                "docs/howto/mongodb.md#experimental.",
                id="pg_queue.W008",
            )


def _check_results() -> Iterable[CheckMessage]:
    """The driver and the table's app; whether the server answers is for whoever uses it to find out."""
    try:
        result_store()
    except Configuration as error:
        yield Error(str(error), hint="docs/howto/results.md shows how to set up each place.", id="pg_queue.E004")


def _check_aliases(conf: QueueSettings) -> Iterable[CheckMessage]:
    for key, alias in (("DATABASE", conf.database), ("DIRECT_DATABASE", conf.direct_database)):
        if alias is not None:
            yield from _check_alias(key, alias)


def _check_routes(conf: QueueSettings) -> Iterable[CheckMessage]:
    for topic in conf.routing.topics:
        try:
            _ = store().outbox
            check_target(topic)
        except (QueueError, ImproperlyConfigured) as error:
            yield Error(
                f"PG_QUEUE['ROUTES']: expected a target that can be relayed to, got: {topic!r}; {error}",
                hint="docs/howto/keep-celery-workers.md shows how to set up a route.",
                id="pg_queue.E006",
            )


def _check_alias(key: str, alias: str) -> Iterable[CheckMessage]:
    try:
        vendor = connections[alias].vendor
    except ConnectionDoesNotExist:
        known = ", ".join(sorted(connections.settings))
        yield Error(
            f"PG_QUEUE[{key!r}]: expected an alias of DATABASES ({known}), got: {alias!r}",
            hint=f"Add DATABASES[{alias!r}], or name another alias.",
            id="pg_queue.E002",
        )
        return
    if vendor not in ("postgresql", "sqlite"):
        yield Error(
            f"PG_QUEUE[{key!r}]: expected a database of PostgreSQL or SQLite, got: {alias!r}, whose engine is {vendor}",
            hint="Set its ENGINE to django.db.backends.postgresql or, for one machine, sqlite3: docs/howto/sqlite.md.",
            id="pg_queue.E003",
        )
    if vendor == "sqlite" and not takes_lock_at_once(alias):
        yield Error(
            f"PG_QUEUE[{key!r}]: expected an alias whose OPTIONS have transaction_mode IMMEDIATE, got: {alias!r}, "
            "where a transaction that has read fails when it writes after another one did",
            hint="docs/howto/sqlite.md shows the OPTIONS.",
            id="pg_queue.E005",
        )
