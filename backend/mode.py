"""`DOWNBEAT_MODE`: whether the service is many processes on PostgreSQL, or one on a file of SQLite."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

VARIABLE = "DOWNBEAT_MODE"


class Mode(StrEnum):
    """How the stand-alone service runs."""

    SERVER = "server"
    """Web processes, schedulers and workers, on PostgreSQL."""
    DESKTOP = "desktop"
    """One process with everything in it, on a file of SQLite: no server at all."""


def mode_of(environment: Mapping[str, str]) -> Mode:
    """The mode that the environment asks for. Raises: ValueError naming the variable."""
    value = environment.get(VARIABLE) or Mode.SERVER.value
    try:
        return Mode(value)
    except ValueError:
        expected = " or ".join(mode.value for mode in Mode)
        raise ValueError(f"{VARIABLE}: expected {expected}, got: {value!r}") from None
