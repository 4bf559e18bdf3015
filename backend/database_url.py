"""`postgres://user:password@host:port/name`, read once and for all who are given one."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import dj_database_url

FORM = (
    "postgres://user:password@host:port/name with / # ? [ ] % of the password percent-encoded, or without the password "
    "and PGPASSWORD set to it"
)


def parse_database_url(url: str, **options: Any) -> dict[str, Any]:
    """An entry of Django's DATABASES; `options` are `dj_database_url.parse`'s.

    Raises: ValueError, without the URL, for one that cannot be read or that its own password cuts short.
    """
    try:
        entry = dict(dj_database_url.parse(url, **options))
        host = urlsplit(url).netloc
    except ValueError:
        raise ValueError(f"expected {FORM}, got: a URL that cannot be read") from None
    if ":" in host and "@" in url and "@" not in host:
        raise ValueError(f"expected {FORM}, got: a password that cuts the URL short")
    return entry
