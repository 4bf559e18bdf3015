"""`DATABASE_URL`, read once and for all who are given one: PostgreSQL's, or a file of SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dj_database_url

FORM = (
    "postgres://user:password@host:port/name with / # ? [ ] % of the password percent-encoded, or without the password "
    "and PGPASSWORD set to it"
)
FILE_FORM = "sqlite:////absolute/path/of/the/file.sqlite3"

SQLITE_OPTIONS: dict[str, Any] = {
    # A transaction that begins by reading, and then finds that somebody has written meanwhile, fails at once and
    # whatever the timeout. Taking the one write lock at the beginning waits for it instead.
    "transaction_mode": "IMMEDIATE",
    # Seconds to wait for the write lock: longer than any batch holds it.
    "timeout": 20,
    # WAL: readers do not wait for the writer. FULL: what has been committed has been flushed to the disk, as
    # PostgreSQL has it. NORMAL would outlive a killed process too, but not the machine's power.
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}


def parse_database_url(url: str, **options: Any) -> dict[str, Any]:
    """An entry of Django's DATABASES; `options` are `dj_database_url.parse`'s, and count for PostgreSQL.

    Raises: ValueError, without the URL, for one that cannot be read or that its own password cuts short.
    """
    if url.startswith("sqlite:"):
        return _sqlite(url)
    try:
        entry = dict(dj_database_url.parse(url, **options))
        host = urlsplit(url).netloc
    except ValueError:
        raise ValueError(f"expected {FORM}, got: a URL that cannot be read") from None
    if ":" in host and "@" in url and "@" not in host:
        raise ValueError(f"expected {FORM}, got: a password that cuts the URL short")
    return entry


def _sqlite(url: str) -> dict[str, Any]:
    """A file, and no database in memory: each process, and each thread, would have one of its own."""
    parts = urlsplit(url)
    path = Path(unquote(parts.path)[1:])
    if parts.netloc or parts.query or parts.fragment or not path.is_absolute():
        raise ValueError(f"expected {FILE_FORM} and nothing after the path, got: {url!r}")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": SQLITE_OPTIONS.copy(),
        "CONN_MAX_AGE": None,
    }
