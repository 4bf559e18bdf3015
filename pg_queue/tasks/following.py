"""What an execution sends on, held until its message is settled: then enqueued by the very transaction that settles it.

Whoever sends (Celery's transport, on behalf of Celery's own code) asks `hold`. Where nothing is to be held, the sender
enqueues by itself, in the transaction that is open. All of it is of this thread, or of this asyncio task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from enum import Enum, auto

from pg_queue.domain import NewMessage


class _When(Enum):
    NEVER = auto()
    OUTSIDE_TRANSACTIONS = auto()
    ALWAYS = auto()


_state: ContextVar[tuple[list[NewMessage], _When] | None] = ContextVar("pg_queue_followers", default=None)


@contextmanager
def execution() -> Iterator[list[NewMessage]]:
    """Around one execution: the list of what is held for it, in the order in which it was sent. At first nothing is."""
    followers: list[NewMessage] = []
    token = _state.set((followers, _When.NEVER))
    try:
        yield followers
    finally:
        _state.reset(token)


def holding() -> AbstractContextManager[None]:
    """Inside the block, what is sent outside of a transaction is held."""
    return _switched(_When.OUTSIDE_TRANSACTIONS)


def holding_all() -> AbstractContextManager[None]:
    """Inside the block everything is held, also what is sent in a transaction that may be about to be rolled back."""
    return _switched(_When.ALWAYS)


def sending() -> AbstractContextManager[None]:
    """Inside the block nothing is held: what is sent is the task's own, and belongs to its transactions."""
    return _switched(_When.NEVER)


def hold(messages: Sequence[NewMessage], *, in_transaction: bool) -> bool:
    """Keep these, checked as whatever is enqueued, for the end of the execution. False: enqueue them yourself, now."""
    state = _state.get()
    if state is None:
        return False
    followers, when = state
    if when is _When.NEVER or (in_transaction and when is not _When.ALWAYS):
        return False
    followers.extend(messages)
    return True


@contextmanager
def _switched(when: _When) -> Iterator[None]:
    state = _state.get()
    token = _state.set(None if state is None else (state[0], when))
    try:
        yield
    finally:
        _state.reset(token)
