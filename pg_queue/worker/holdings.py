"""What a worker holds: the tokens of its claims, shared between the loop that settles and the thread that renews."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from uuid import UUID

from pg_queue.domain import Claim

Pair = tuple[UUID, UUID]


class Holdings:
    """The claims of one worker, by message id. Safe to use from any thread."""

    def __init__(self) -> None:
        self._tokens: dict[UUID, UUID] = {}
        self._leaving: set[UUID] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, claims: Iterable[Claim]) -> None:
        """Claims were made."""
        with self._lock:
            self._tokens.update((claim.message.id, claim.token) for claim in claims)

    def pairs(self) -> list[Pair]:
        """All claims, as `QueueStore.renew` wants them."""
        with self._lock:
            return list(self._tokens.items())

    def leaving(self, ids: Iterable[UUID]) -> None:
        """These are about to be settled or given back: their absence from the store is no loss."""
        with self._lock:
            self._leaving.update(ids)

    def drop(self, ids: Iterable[UUID]) -> None:
        """These are held no more."""
        with self._lock:
            for message_id in ids:
                self._tokens.pop(message_id, None)
                self._leaving.discard(message_id)

    def lost(self, asked: Iterable[Pair], renewed: set[UUID]) -> set[UUID]:
        """Of the claims that were to be renewed: those that were not, and that nobody here is giving up."""
        with self._lock:
            return {
                message_id
                for message_id, token in asked
                if message_id not in renewed
                and self._tokens.get(message_id) == token
                and message_id not in self._leaving
            }
