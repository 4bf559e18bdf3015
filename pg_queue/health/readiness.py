"""Is the process alive, and could it do its work? The questions behind `/healthz` and `/readyz`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from django.db import DatabaseError, InterfaceError, connections
from django.db.migrations.executor import MigrationExecutor

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


def problems(alias: str, app_labels: Sequence[str]) -> dict[str, object]:
    """Why the database cannot be used, for a person to read; empty when it can."""
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute(_PING)
        missing = missing_migrations(alias, app_labels)
    except (DatabaseError, InterfaceError) as error:
        return {"database": str(error).strip() or type(error).__name__}
    return {"migrations": missing} if missing else {}
