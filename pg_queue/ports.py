"""The contracts. Every guarantee of the queue is written here, once; each store under `storage/` keeps all of them.

Common to all operations of a store:

- Instants are decided by the store's own clock, never by the caller's.
- "Joins the caller's transaction" means: on the PostgreSQL store, the Django connection of the store's alias; the
  effect is there when that transaction commits, and nowhere before.
- Message ids are `uuid.UUID`; a store makes them time-ordered (RFC 9562, version 7).
- Safe in parallel: any number of threads and processes may call any operation at any time.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from pg_queue.domain import Claim, Message, NewMessage, Settled, Settlement


class QueueStore(Protocol):
    """Where messages live from enqueue to outcome."""

    def enqueue(self, messages: Sequence[NewMessage]) -> list[uuid.UUID]:
        """Store `messages` and return their ids in the same order. Joins the caller's transaction.

        All or none. First in is first out within one queue and priority, also within one call. Waiting workers are
        woken when the transaction commits. Values were validated by `pg_queue.api` before they get here.
        """
        ...

    def claim(self, *, queues: Sequence[str], limit: int, lease: timedelta, worker: str) -> list[Claim]:
        """Hold at most `limit` due messages for `lease`, and return them; opens and commits its own transaction.

        Order: the queues in the order given; within a queue the higher priority first; within that, first in first
        out by the instant at which the message became due. A live claim has one holder: two callers never get the
        same message. Each claim counts one attempt and carries a fresh token. A message that cannot be read (no
        `enqueue` has written it) becomes a dead letter at once, and is not among them.
        """
        ...

    def renew(self, claims: Sequence[tuple[uuid.UUID, uuid.UUID]], *, lease: timedelta) -> set[uuid.UUID]:
        """Extend the leases of `(message id, token)` pairs to now + `lease`; return the tokens that still hold.

        A lease that has run out still holds until `expire_claims` takes the message back. The claim of a token that is
        missing from the answer was lost: its execution must not be settled and should be stopped.
        """
        ...

    def settle(self, settlements: Sequence[Settlement]) -> dict[uuid.UUID, Settled]:
        """Record what became of claims: result and ack in one transaction, for the whole batch; answers by token.

        A settlement whose token does not hold the message changes nothing and answers `LOST`; the others stand, also
        one of the same message under the token that does. A `Retry` whose attempts are used up becomes a death.
        Terminal states are final.
        """
        ...

    def release(self, claims: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> set[uuid.UUID]:
        """Give back claims whose execution never began; the attempt is not counted. Returns the tokens given up."""
        ...

    def expire_claims(self, *, limit: int) -> int:
        """Take back at most `limit` claims whose lease has run out; return how many.

        A message with attempts left waits again, at once; one without becomes a dead letter whose failure says that
        its worker vanished.
        """
        ...

    def get(self, message_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Message]:
        """The messages of these ids in whatever state they are; ids that are unknown or expired are left out."""
        ...

    def take_outcomes(self, report_to: str, *, limit: int) -> list[Message]:
        """Hand over at most `limit` terminal messages that were enqueued with this `report_to`, oldest first.

        Joins the caller's transaction: each outcome is handed over exactly once among committed transactions.
        Safe in parallel: concurrent callers get disjoint outcomes.
        """
        ...

    def retain(self, *, limit: int) -> int:
        """Delete at most `limit` outcomes, and as many dead letters, past their time to live; return how many.

        An outcome that its consumer has not taken yet is kept.
        """
        ...

    def replay(self, message_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """Turn dead letters back into waiting messages with their attempts reset; return the ids replayed.

        Joins the caller's transaction. The failed results go, so a consumer of outcomes gets the next outcome too.
        """
        ...

    def next_due_seconds(self, queues: Sequence[str]) -> float | None:
        """Seconds until the next unclaimed message of these queues is due, 0 when one is; None when there is none."""
        ...

    def depths(self) -> Sequence[QueueDepth]:
        """Per queue: waiting, delayed, running, dead, and the age of the oldest due message."""
        ...


class QueueDepth(Protocol):
    """One queue's figures at one instant. Counts are exact."""

    @property
    def queue(self) -> str:
        """The queue's name."""

    @property
    def waiting(self) -> int:
        """Due and unclaimed."""

    @property
    def delayed(self) -> int:
        """Unclaimed, due later."""

    @property
    def running(self) -> int:
        """Claimed."""

    @property
    def dead(self) -> int:
        """Dead letters."""

    @property
    def oldest_due_seconds(self) -> float:
        """Age of the oldest message that is due and unclaimed; 0 where there is none."""


class Clock(Protocol):
    """Where a component asks for the time, so that tests can inject it."""

    def now(self) -> datetime:
        """The current instant, aware, UTC."""
        ...
