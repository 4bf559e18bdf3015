"""What a migration does on PostgreSQL and nowhere else."""

from __future__ import annotations

from typing import Any

from django.db.migrations.operations import SeparateDatabaseAndState


class OnPostgreSQL(SeparateDatabaseAndState):
    """On PostgreSQL `database_operations`; on any other database `state_operations`, as Django does them there.

    Without `state_operations` nothing happens elsewhere. The models' state is the same on every database.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Do what this database is to have."""
        self._on(schema_editor).database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Undo it."""
        self._on(schema_editor).database_backwards(app_label, schema_editor, from_state, to_state)

    def _on(self, schema_editor: Any) -> SeparateDatabaseAndState:
        is_postgresql = schema_editor.connection.vendor == "postgresql"
        return SeparateDatabaseAndState(self.database_operations if is_postgresql else self.state_operations)
