"""SQLite's triggers that keep a pipeline in agreement with its schedule; PostgreSQL's are in the migrations.

Django changes a table of SQLite by making it anew, which loses its triggers, and fails where another table's trigger
names it meanwhile. So they are taken away before a migration, and put there after it.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate

from pg_queue.api import load_sql

_SQL = load_sql("backend.pipelines", "sql/sqlite/agreement.sql")
_TABLES = {"scheduler_pgperiodicschedule", "pipelines_pipeline"}


def connect(sender: AppConfig) -> None:
    """Register the receivers. They act where the database is SQLite."""
    pre_migrate.connect(remove, sender=sender, dispatch_uid="pipelines.remove_agreement")
    post_migrate.connect(install, sender=sender, dispatch_uid="pipelines.install_agreement")


def remove(*, using: str, **_: Any) -> None:
    """Take the triggers away."""
    if connections[using].vendor == "sqlite":
        _execute(using, "stop_following", "stop_outliving")


def install(*, using: str, **_: Any) -> None:
    """Put the triggers there, where both tables are. Does nothing where they are already."""
    if connections[using].vendor == "sqlite" and set(connections[using].introspection.table_names()) >= _TABLES:
        _execute(using, "follow", "outlive")


def _execute(using: str, *names: str) -> None:
    with connections[using].cursor() as cursor:
        for name in names:
            cursor.execute(_SQL[name])
