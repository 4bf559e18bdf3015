"""Is the process alive, and could it do its work? The questions behind `/healthz` and `/readyz`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from django.db import DatabaseError, InterfaceError, connections
from django.db.migrations.executor import MigrationExecutor

from pg_queue.errors import QueueError
from pg_queue.ports import QueueStore
from pg_queue.settings import queue_settings
from pg_queue.sql import statements

_PING = statements("sessions")["ping"]


class Pulse:
    """The last turn of a main loop. `beat` from the loop, `age_seconds` and `is_alive` from any thread."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self._beat_at = time.monotonic()

    def beat(self) -> None:
        """The loop has turned."""
        self._beat_at = time.monotonic()

    @property
    def age_seconds(self) -> float:
        """Seconds since the loop turned."""
        return time.monotonic() - self._beat_at

    @property
    def is_alive(self) -> bool:
        """True while the last turn is not older than the limit."""
        return self.age_seconds <= self.limit_seconds


def missing_migrations(alias: str, app_labels: Sequence[str] | None = None) -> list[str]:
    """The migrations of these apps that the database lacks, as `app.name`; of every app where None is given.

    Raises: Django's `OperationalError`.
    """
    executor = MigrationExecutor(connections[alias])
    graph = executor.loader.graph
    targets = [node for node in graph.leaf_nodes() if app_labels is None or node[0] in app_labels]
    return [f"{migration.app_label}.{migration.name}" for migration, _ in executor.migration_plan(targets)]


def problems(app_labels: Sequence[str], used: QueueStore | None = None) -> dict[str, object]:
    """Why the queue's database, or the store given, cannot be used, for a person to read; empty when it can."""
    if used is not None and used.database is None:
        return _problems_of_server(used)
    alias = queue_settings().database if used is None or used.database is None else used.database
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute(_PING)
        missing = missing_migrations(alias, app_labels)
    except (DatabaseError, InterfaceError) as error:
        return {"database": str(error).strip() or type(error).__name__}
    return {"migrations": missing} if missing else {}


def _problems_of_server(used: QueueStore) -> dict[str, object]:
    try:
        used.next_due_seconds(())
    except QueueError as error:
        return {"database": str(error)}
    return {}
