"""Who acts, for the notes of what was changed: said once where a request, command or duty begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LONGEST = 255
_actor: ContextVar[Callable[[], str]] = ContextVar("downbeat_actor", default=lambda: "")


@contextmanager
def acting_as(actor: str | Callable[[], str]) -> Iterator[None]:
    """Changes made in the block, in this thread or task, are this actor's; a callable is asked when one is made."""
    token = _actor.set(actor if callable(actor) else lambda: actor)
    try:
        yield
    finally:
        _actor.reset(token)


def current_actor() -> str:
    """Whoever acts, in at most 255 characters; empty where nobody said."""
    return _actor.get()().replace("\x00", "")[:_LONGEST]
