"""The file's tables: made where they are missing, and known to be complete without importing a single migration.

A new file is made by the script that was prepared from the migrations, where these are the ones that are installed.
"""

from __future__ import annotations

from pathlib import Path

from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from backend.desktop.prepared import SCRIPT, migrations_of


def make_tables() -> bool:
    """Migrate, where the file lacks migrations of an installed app; True where it did."""
    installed = _on_disk()
    if installed <= _recorded():
        return False
    script = SCRIPT.read_text()
    if not connection.introspection.table_names() and migrations_of(script) == installed:
        connection.ensure_connection()
        connection.connection.executescript(script)
        return True
    call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
    return True


def _recorded() -> set[tuple[str, str]]:
    return set(MigrationRecorder(connection).applied_migrations())


def _on_disk() -> set[tuple[str, str]]:
    """By their files: to load them all takes longer than all the rest of a start."""
    return {
        (config.label, file.stem)
        for config in apps.get_app_configs()
        for file in Path(config.path, "migrations").glob("[0-9]*.py")
    }
