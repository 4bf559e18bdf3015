"""Named SQL in files: `-- name: <name>` begins a statement, comment lines below it say what it is for."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_HEADING = re.compile(r"^-- name: (\w+)[ \t]*$", re.MULTILINE)


def statements(name: str, dialect: str = "postgres") -> MappingProxyType[str, str]:
    """The statements of `pg_queue/sql/<dialect>/<name>.sql` by their names."""
    return named_statements("pg_queue.sql", f"{dialect}/{name}.sql")


@cache
def named_statements(package: str, path: str) -> MappingProxyType[str, str]:
    """The statements of the file at `path` inside `package`, by their names, read once; comment lines are left out.

    Raises:
        ValueError: a name occurs twice, or something stands before the first name.
    """
    preamble, *parts = _HEADING.split(files(package).joinpath(path).read_text(encoding="utf-8"))
    names, bodies = parts[::2], [_without_comments(body) for body in parts[1::2]]
    if _without_comments(preamble) or len(set(names)) != len(names):
        raise ValueError(f"{package}/{path}: expected sections of distinct names and nothing before the first")
    return MappingProxyType(dict(zip(names, bodies, strict=True)))


def _without_comments(body: str) -> str:
    return "\n".join(line for line in body.splitlines() if not line.lstrip().startswith("--")).strip()
