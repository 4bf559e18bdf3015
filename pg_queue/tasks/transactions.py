"""Transactions that a task leaves open: nothing of them was committed, and nothing else may run inside them."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connections


def in_transaction() -> set[str]:
    """The aliases on which this thread is in a transaction."""
    return {one.alias for one in connections.all(initialized_only=True) if one.in_atomic_block}


def discard(aliases: Iterable[str]) -> None:
    """Roll back; the connection object goes too: Django's believes for ever that it is inside the block."""
    for alias in aliases:
        connections[alias].close()
        del connections[alias]


def left_open(aliases: Iterable[str]) -> str:
    """What to say of it."""
    return f"the task returned and left a transaction open on {', '.join(sorted(aliases))}: rolled back"
