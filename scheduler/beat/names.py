"""What the name of a Beat row says of it. Pure."""

from __future__ import annotations

from uuid import UUID, uuid5

CANARY_PREFIX = "downbeat-canary-"
"""Rows of a hand-over's own, which come and go: no schedules."""
_NAMESPACE = UUID("6b1f4c1e-2f0a-5a53-9d0e-9c9b5b7f0b3a")


def is_made_here(name: str) -> bool:
    """Whether it is the name of a row that was written for a schedule made here: the schedule's id."""
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def is_canary(name: str) -> bool:
    """Whether the row is a canary."""
    return name.startswith(CANARY_PREFIX)


def schedule_id_for(name: str, *, again: int | None = None) -> UUID:
    """The id of the schedule that mirrors the row: always the same for one name.

    `again` is the row's own key, where that id is another's already: the row that had this name before was renamed.
    """
    if is_made_here(name):
        return UUID(name)
    return uuid5(_NAMESPACE, name if again is None else f"{name}\n{again}")
