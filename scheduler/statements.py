"""Named SQL of this app: the sections of `sql/<dialect>/*.sql`."""

from __future__ import annotations

from collections.abc import Mapping

from pg_queue.api import load_sql


def statements(source: str, dialect: str = "postgres") -> Mapping[str, str]:
    """The statements of `sql/<dialect>/<source>.sql` by name, read once.

    Raises:
        FileNotFoundError: no such file.
    """
    return load_sql("scheduler", f"sql/{dialect}/{source}.sql")
