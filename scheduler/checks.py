"""System checks: what is wrong with the project's configuration, with an id and what to do.

| id | level | what |
|---|---|---|
| scheduler.E001 | error | `SCHEDULER` is not valid |
| scheduler.E002 | error | `SCHEDULER["DATABASE"]` is neither PostgreSQL nor SQLite, or no database |
| scheduler.E003 | error | new schedules are to be fired by Beat, and django-celery-beat is not installed |
| scheduler.E005 | error | `SCHEDULER["DATABASE"]` is another alias than `PG_QUEUE["DATABASE"]` |
| scheduler.E006 | error | new schedules are to be fired by Beat, and `SCHEDULER["DATABASE"]` is SQLite |
| scheduler.E007 | error | the queue's `default` store is not in `SCHEDULER["DATABASE"]` |
| scheduler.W004 | warning | Beat's table is not guarded by the trigger (`check --database`) |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connections

from pg_queue.api import CapabilityMissing, Configuration, queue_settings, store
from scheduler import beat
from scheduler.beat import trigger
from scheduler.beat.trigger import GuardState
from scheduler.dialect import is_sqlite
from scheduler.domain import Firer
from scheduler.errors import InvalidInput
from scheduler.settings import SchedulerSettings, scheduler_settings


@register("scheduler")
def check_settings(**_: Any) -> list[CheckMessage]:
    """E001, E002, E003, E005, E006 and E007."""
    try:
        conf = scheduler_settings()
    except InvalidInput as error:
        return [Error(str(error), hint="Correct SCHEDULER in the project's settings.", id="scheduler.E001")]
    return [*_check_database(conf), *_check_beat(conf)]


@register(Tags.database)
def check_guard(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W004."""
    try:
        alias = scheduler_settings().database
    except InvalidInput:
        return []  # E001 says so
    if alias not in (databases or ()) or connections[alias].vendor != "postgresql":
        return []
    try:
        tables = trigger.find_tables(alias)
    except DatabaseError:
        return []  # an unreachable database is not this check's to report
    if tables.state in (GuardState.IDLE, GuardState.ARMED):
        return []
    why, hint = "is missing on 'django_celery_beat_periodictask'", "Run `manage.py migrate`: it installs the trigger."
    if tables.state is GuardState.REMOVED:
        why, hint = (
            f"was removed ({tables.removal})",
            "Run `manage.py tripwire restore`, unless Beat is to fire them too.",
        )
    return [
        Warning(
            "Nothing keeps Celery Beat's rows disabled while PG fires their schedules: the trigger "
            f"'scheduler_guard_beat' {why}.",
            hint=hint,
            id="scheduler.W004",
        )
    ]


def _check_database(conf: SchedulerSettings) -> list[CheckMessage]:
    if conf.database not in connections.settings:
        expected = f"one of the aliases of DATABASES ({', '.join(connections.settings)})"
        message = f"SCHEDULER['DATABASE']: expected {expected}, got: {conf.database!r}"
        return [Error(message, hint="Name the alias of the queue's own database.", id="scheduler.E002")]
    vendor = connections[conf.database].vendor
    if vendor in ("postgresql", "sqlite"):
        return _check_queue(conf)
    return [
        Error(
            f"DATABASES[{conf.database!r}]: expected PostgreSQL or SQLite, where schedules are kept, got: {vendor!r}",
            hint="Set its ENGINE to 'django.db.backends.postgresql' (for one machine 'django.db.backends.sqlite3'), "
            "or SCHEDULER['DATABASE'] to an alias that has it.",
            id="scheduler.E002",
        )
    ]


def _check_queue(conf: SchedulerSettings) -> list[CheckMessage]:
    """A run and its message are one transaction, which needs one connection: another alias of one database is two."""
    try:
        expected = queue_settings().database
    except Configuration:
        return []  # pg_queue.E001 says so
    if conf.database == expected:
        return _check_store(conf)
    return [
        Error(
            f"SCHEDULER['DATABASE']: expected {expected!r}, the queue's own, because a run and its message are written "
            f"in one transaction, got: {conf.database!r}",
            hint="Name one alias in SCHEDULER['DATABASE'] and PG_QUEUE['DATABASE'].",
            id="scheduler.E005",
        )
    ]


def _check_store(conf: SchedulerSettings) -> list[CheckMessage]:
    """What is fired into a table that no worker of the `default` store reads would never run."""
    try:
        used = store()
    except (CapabilityMissing, Configuration):
        return []  # pg_queue.W007 says so
    if used.database == conf.database:
        return []
    return [
        Error(
            f"PG_QUEUE['STORES']['default']: expected a store in DATABASES[{conf.database!r}], because a run and its "
            f"message are written in one transaction, got: {used.place}",
            hint="Give it another alias than 'default', and route queues to it (PG_QUEUE['ROUTES']).",
            id="scheduler.E007",
        )
    ]


def _check_beat(conf: SchedulerSettings) -> list[CheckMessage]:
    if conf.default_firer == Firer.BEAT and is_sqlite():
        return [
            Error(
                f"SCHEDULER['DEFAULT_FIRER']: expected 'pg', because DATABASES[{conf.database!r}] is SQLite, beside "
                "which Celery Beat fires nothing, got: 'beat'",
                hint="Set DEFAULT_FIRER to 'pg', or keep the schedules in PostgreSQL.",
                id="scheduler.E006",
            )
        ]
    if conf.default_firer != Firer.BEAT or beat.is_installed():
        return []
    return [
        Error(
            "SCHEDULER['DEFAULT_FIRER']: expected 'pg', because django-celery-beat is not installed, got: 'beat'",
            hint="Add 'django_celery_beat' to INSTALLED_APPS, or set DEFAULT_FIRER to 'pg'.",
            id="scheduler.E003",
        )
    ]
