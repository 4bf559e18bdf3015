"""The contract of a store of results. Every guarantee is written here, once; each store keeps all of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from pg_queue.results.domain import Outcome, Result


class ResultStore(Protocol):
    """Where outcomes of messages are kept.

    - Instants are decided by the store's own clock, never by the caller's; `Outcome.started_at` is the queue's, and is
      only ever compared with itself.
    - Safe in parallel: any number of threads and processes may call any operation at any time.
    - Nothing joins a caller's transaction, unless the caller has one open on the store's own database alias.
    - Entries that no `put` has written stop nobody: who reads gets the others.
    - Every operation raises `ResultsUnavailable` when the store cannot be reached or cannot answer now. A batch may
      have been done in part then: all of them may be done again.
    """

    def put(self, outcomes: Sequence[Outcome]) -> None:
        """Keep these outcomes. Of several of one message, in the call or in the store, the latest execution's stands.

        Idempotent: the same outcome once more changes nothing, not even when it finished. An outcome of an execution
        that was claimed earlier than the one kept changes nothing. When `put` returns, what it kept is durable as far
        as the server is, and every reader sees it.

        Raises: PayloadTooLarge (field `result`) for a value above the configured bound, PayloadNotJSON for what JSON
        cannot hold: nothing was kept then. ResultRefused when the server cannot hold one of them.
        """
        ...

    def get(self, message_ids: Iterable[uuid.UUID]) -> Mapping[uuid.UUID, Result]:
        """What is kept of these messages; those that are unknown, deleted or past their time to live are left out."""
        ...

    def forget(self, message_ids: Iterable[uuid.UUID]) -> int:
        """Delete what is kept of these messages; how many that were."""
        ...

    def clear(self, *, completed_before: datetime, limit: int) -> int:
        """Delete at most `limit` results that finished before this instant, the oldest first; how many that were."""
        ...

    def expire(self, *, limit: int) -> int:
        """Delete at most `limit` results that are past their time to live, the oldest first; how many that were.

        `get` does not find them before that either.
        """
        ...

    def count(self) -> int:
        """How many results are kept, exactly; those past their time to live are not counted."""
        ...

    def now(self) -> datetime:
        """The present on the store's clock, aware, UTC."""
        ...
