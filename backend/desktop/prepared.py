"""The tables as the migrations make them, in one script: `tables.sql`.

To run all migrations takes Django longer than all the rest of a first start, most of it to picture what the models were
like before each. `make desktop-tables` writes the script anew after a migration; a test fails until it does.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).with_name("tables.sql")
_MIGRATION = re.compile(r"""^INSERT INTO "django_migrations" VALUES\(\d+,'(\w+)','(\w+)',""", re.MULTILINE)
_INSTANT = re.compile(r"'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?'")
_NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
_HEADER = "-- Written by `make desktop-tables` from the migrations; see prepared.py. Not to be edited.\n"


def script_of(path: Path) -> str:
    """The script that makes a file like this one, which was just migrated. One transaction."""
    with sqlite3.connect(path) as file:
        begin, *statements, commit = file.iterdump()
    statements.sort(key=lambda one: not one.startswith("CREATE TABLE"))  # rows refer to tables of later names
    rows_of_now = (_INSTANT.sub(_NOW, one) if one.startswith("INSERT") else one for one in statements)
    return _HEADER + "\n".join([begin, *rows_of_now, commit]) + "\n"


def migrations_of(script: str) -> set[tuple[str, str]]:
    """App and name of each migration that a file made by this script has."""
    return set(_MIGRATION.findall(script))


def _write() -> None:
    import os

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tables.sqlite3")
        os.environ.update(DATABASE_URL=f"sqlite:///{path}", DJANGO_SETTINGS_MODULE="backend.settings")
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        call_command("migrate", interactive=False, verbosity=0)
        connections.close_all()
        SCRIPT.write_text(script_of(path))
    sys.stdout.write(f"written: {SCRIPT}\n")


if __name__ == "__main__":
    _write()
