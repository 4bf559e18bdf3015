"""Redis scripts in files: one file a topic, whose first line names its flags and the parts that come before it.

A script is called with an operation's name, the prefix of all keys and a request in JSON; see `base.lua`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files

_HEADING = re.compile(r"-- script: flags=([a-z,-]*); parts=([a-z ]*)\n")


@dataclass(frozen=True, slots=True)
class Script:
    """A script as the server takes it."""

    text: str
    sha: str
    """What `EVALSHA` knows it by."""


@cache
def script(topic: str) -> Script:
    """The script of `pg_queue/lua/<topic>.lua`, read once. Raises: ValueError for a first line that is no heading."""
    source = _read(topic)
    heading = _HEADING.match(source)
    if heading is None:
        raise ValueError(f"{topic}.lua: expected a first line such as '-- script: flags=allow-oom; parts=base'")
    flags, parts = heading.groups()
    text = "\n".join([f"#!lua flags={flags}" if flags else "#!lua", *map(_read, parts.split()), source])
    return Script(text=text, sha=sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return files("pg_queue.lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")
