"""The ends of messages, and what follows from them, in the transaction of the end.

A message that ends leaves a result, and a dead letter where it has failed for good. Then its key begins to lapse, its
continuations are enqueued, and the barrier that waits for it is told. Everything happens while the write lock is held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pg_queue.domain import MessageState
from pg_queue.sql import statements
from pg_queue.sqlite import as_text
from pg_queue.storage.parcels import read_continuations
from pg_queue.storage.sqlite.barriers import SqliteBarriers
from pg_queue.storage.sqlite.messages import Messages
from pg_queue.storage.sqlite.session import Row, Session, after


@dataclass(frozen=True, slots=True, kw_only=True)
class Living:
    """A message that waits or runs: what its end depends on, in the columns of `held`, `alive` and `expired`."""

    id: str
    token: str | None
    namespace: str
    attempts: int
    max_attempts: int
    key: str | None
    barrier_id: str | None
    continuations: str | None
    report_to: str | None

    @classmethod
    def of(cls, row: Row) -> Living:
        """The first nine columns."""
        return cls(**dict(zip(cls.__slots__, row, strict=False)))

    @property
    def has_attempts(self) -> bool:
        """Whether it may be tried again."""
        return self.attempts < self.max_attempts

    @property
    def is_missed(self) -> bool:
        """Whether somebody needs its end."""
        return any(one is not None for one in (self.report_to, self.key, self.barrier_id, self.continuations))


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How one message ends."""

    message: Living
    state: MessageState
    ttl_seconds: float
    """How long its result is kept; 0: for ever."""
    value: str | None = None
    """JSON text."""
    error: str | None = None
    """JSON text, as `Failure.as_json`."""
    is_traceless: bool = False
    """Nothing is kept of it, unless somebody needs its end."""


class Ends:
    """Ends messages. To be called in a transaction that has the write lock."""

    def __init__(self, session: Session, messages: Messages, barriers: SqliteBarriers) -> None:
        self._session, self._messages, self._barriers = session, messages, barriers
        self._statements = statements("outcomes", "sqlite")

    def end(self, ends: Sequence[End], now: datetime) -> None:
        """Do everything that these ends bring about."""
        rows = [_row(end, now) for end in ends]
        traceless = {end.message.id for end in ends if end.is_traceless and not end.message.is_missed}
        self._session.each(self._statements["record"], [row for row in rows if row["id"] not in traceless])
        self._session.each(self._statements["forget"], [row for row in rows if row["id"] in traceless])
        dead = [row for row in rows if row["state"] == MessageState.FAILED]
        self._session.each(self._statements["bury"], dead)
        self._session.each(self._statements["remove"], rows)
        self._messages.lapse_keys([end.message.id for end in ends if end.message.key is not None], now)
        self._continue(ends, now)
        self._tell_barriers(ends, now)

    def _continue(self, ends: Sequence[End], now: datetime) -> None:
        for end in ends:
            if end.message.continuations is not None:
                following = read_continuations(
                    end.message.continuations,
                    succeeded=end.state is MessageState.SUCCEEDED,
                    message_id=end.message.id,
                )
                self._messages.follow(following, now=now, namespace=end.message.namespace)

    def _tell_barriers(self, ends: Sequence[End], now: datetime) -> None:
        """Successes first: a failure among them keeps the barrier from being done by then."""
        members = [end for end in ends if end.message.barrier_id is not None]
        succeeded = Counter(end.message.barrier_id for end in members if end.state is MessageState.SUCCEEDED)
        for barrier_id, count in succeeded.items():
            self._barriers.count_down(str(barrier_id), count, now)
        for end in members:
            if end.state is not MessageState.SUCCEEDED:
                self._barriers.abort(str(end.message.barrier_id), end.message.id, now)


def _row(end: End, now: datetime) -> dict[str, Any]:
    return {
        "id": end.message.id,
        "state": end.state.value,
        "value": end.value,
        "error": end.error,
        "now": as_text(now),
        "expires_at": after(now, end.ttl_seconds) if end.ttl_seconds else None,
    }
