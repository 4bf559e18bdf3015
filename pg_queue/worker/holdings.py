"""What a worker holds: the tokens of its claims, shared between the loop that settles and the thread that renews."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from uuid import UUID

from pg_queue.domain import Claim

Pair = tuple[UUID, UUID]


class Holdings:
    """The claims of one worker, by token. Safe to use from any thread.

    Not by message: a worker that was frozen past its lease may claim a message again before it has heard that it lost
    the claim before, and then holds two of them, of which one is true.
    """

    def __init__(self) -> None:
        self._message_ids: dict[UUID, UUID] = {}
        self._leaving: set[UUID] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._message_ids)

    def add(self, claims: Iterable[Claim]) -> None:
        """Claims were made."""
        with self._lock:
            self._message_ids.update((claim.token, claim.message.id) for claim in claims)

    def pairs(self) -> list[Pair]:
        """All claims as `(message id, token)`, as `QueueStore.renew` wants them."""
        with self._lock:
            return [(message_id, token) for token, message_id in self._message_ids.items()]

    def leaving(self, tokens: Iterable[UUID]) -> None:
        """These are about to be settled or given back: their absence from the store is no loss."""
        with self._lock:
            self._leaving.update(tokens)

    def drop(self, tokens: Iterable[UUID]) -> None:
        """These are held no more."""
        with self._lock:
            for token in tokens:
                self._message_ids.pop(token, None)
                self._leaving.discard(token)

    def lost(self, asked: Iterable[Pair], renewed: set[UUID]) -> set[UUID]:
        """Tokens of the claims that were to be renewed, and were not, and that nobody here is giving up."""
        with self._lock:
            return {
                token
                for _, token in asked
                if token not in renewed and token in self._message_ids and token not in self._leaving
            }
