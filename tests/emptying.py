"""How the database is emptied after a test that commits: only the tables that have rows.

Django truncates every table and then makes content types, permissions and whatever migrations wrote once more, which
takes longer than most of these tests. Here what no test changes stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from django.core.management import call_command
from django.db import connections
from django.test import TransactionTestCase

KEPT = frozenset({"django_content_type", "auth_permission", "django_migrations"})
"""Tables that migrations fill and no test writes to."""
_OF_MIGRATIONS = "pipelines_organization"
"""One that migrations fill and tests write to: `tests.conftest` fills it again."""


def empty_after_commit(case: TransactionTestCase) -> None:
    """In place of `TransactionTestCase._fixture_teardown`."""
    for alias in case._databases_names(include_mirrors=False):  # type: ignore[attr-defined]
        if connections[alias].vendor == "postgresql":
            _truncate_filled(alias)
        else:
            _flush(alias, case)


def _truncate_filled(alias: str) -> None:
    connection = connections[alias]
    if not (tables := _tables(alias, str(connection.settings_dict["NAME"]))):
        return
    quoted = {table: connection.ops.quote_name(table) for table in tables}
    looks = " UNION ALL ".join(
        f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {name} {_but_the_default(table)})"
        for table, name in quoted.items()
    )
    with connection.cursor() as cursor:
        cursor.execute(looks)
        filled = [table for (table,) in cursor.fetchall()]
        if filled:
            cursor.execute(f"TRUNCATE {', '.join(quoted[table] for table in filled)} CASCADE")
        if _OF_MIGRATIONS in tables:
            cursor.execute(
                "INSERT INTO pipelines_organization (slug, name) "
                "SELECT 'default', 'Default' WHERE NOT EXISTS (SELECT 1 FROM pipelines_organization)"
            )


def _but_the_default(table: str) -> str:
    return "WHERE (slug, name) <> ('default', 'Default')" if table == _OF_MIGRATIONS else ""


@cache
def _tables(alias: str, name: str) -> Sequence[str]:
    """Of a database, by its name too: tests make others under the same alias."""
    found = connections[alias].introspection.table_names()
    return sorted(set(found) - KEPT)


def _flush(alias: str, case: TransactionTestCase) -> None:
    call_command(
        "flush",
        verbosity=0,
        interactive=False,
        database=alias,
        reset_sequences=False,
        allow_cascade=case.available_apps is not None,
        inhibit_post_migrate=case.available_apps is not None,
    )
