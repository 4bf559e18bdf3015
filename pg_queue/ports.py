"""The contracts. Every guarantee of the queue is written here, once; each store under `storage/` keeps all of them.

Common to all operations of a store:

- Instants are decided by the store's own clock, never by the caller's: a client whose clock is wrong changes nothing.
  That clock is the server's; where there is none (SQLite), the one of the machine that all its processes are on.
- "Joins the caller's transaction" means: on a store with `Capability.TRANSACTIONS`, the one that is open on the Django
  connection of the store's alias; the effect is there when it commits, and nowhere before. On any other store each call
  is a transaction of its own, whose effect is there when the call returns.
- An operation happens whole or not at all, whatever dies in its midst: the caller, the connection or the server.
- Message ids are `uuid.UUID`; a store makes them time-ordered (RFC 9562, version 7).
- Safe in parallel: any number of threads and processes may call any operation at any time.
- A store sees its own namespace only: nothing that is said here crosses from one into another. Housekeeping alone
  (`expire_claims`, `retain`, `Workers.forget`) serves all namespaces, so that one reaper does for a store.
- Entries that no operation has written (put there by hand) stop nobody: a claim buries them as dead letters, and who
  reads gets the others.
- Raises: `StoreUnavailable`, or Django's database errors on a store in a Django database, where the server does not
  answer; `CapabilityMissing` for what the store cannot do.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from pg_queue.domain import (
    Backlog,
    Barrier,
    Capability,
    Claim,
    Event,
    Grant,
    Json,
    Message,
    MessageState,
    NewEvent,
    NewMessage,
    Progress,
    PublishedEvent,
    RateLimit,
    Settled,
    Settlement,
    Switch,
    WorkerView,
)


class QueueStore(Protocol):
    """Where messages live from enqueue to outcome. The ports below are parts of it, in the same transactions."""

    @property
    def namespace(self) -> str:
        """The tenant whose messages these are; the empty string is a namespace like any other."""

    @property
    def database(self) -> str | None:
        """Alias of the Django database that it is in; None: it has a server of its own."""

    @property
    def place(self) -> str:
        """Where it is, as a log may show it: without user and password."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this store can do besides the operations of this class."""

    @property
    def barriers(self) -> Barriers:
        """Fan-out and fan-in. Raises: CapabilityMissing."""

    @property
    def outbox(self) -> Outbox:
        """Events on their way out. Raises: CapabilityMissing."""

    @property
    def switches(self) -> Switches:
        """Queues turned off and on. Raises: CapabilityMissing."""

    @property
    def locks(self) -> Locks:
        """Named locks. Raises: CapabilityMissing."""

    @property
    def limits(self) -> Limits:
        """Rate limits. Raises: CapabilityMissing."""

    @property
    def workers(self) -> Workers:
        """Who is at work, by heartbeat."""

    @property
    def operations(self) -> Operations:
        """What only an operator does. Raises: CapabilityMissing."""

    def within(self, namespace: str) -> QueueStore:
        """The same store, seen from another namespace. Raises: CapabilityMissing."""
        ...

    def listen(self, queues: Sequence[str]) -> Listener:
        """Hear of messages that become due in these queues; not for more than one thread. Raises: CapabilityMissing."""
        ...

    def enqueue(self, messages: Sequence[NewMessage]) -> list[uuid.UUID]:
        """Store `messages` and return their ids in the same order. Joins the caller's transaction.

        All or none, also where one of the ids is that of a message which waits or runs: an error, and nothing stored.
        First in is first out within one queue, priority and organization, also within one call. Waiting workers are
        woken when the transaction commits. Values were validated by `pg_queue.api` before they get here.

        A message whose key holds is not stored, and the id of the one that holds it is returned in its place; that is
        so within one call too. A key holds while its message waits or runs, and for `key_ttl` after its end. Of two
        callers with one key at one time, one stores the message and both get its id.
        """
        ...

    def claim(self, *, queues: Sequence[str], limit: int, lease: timedelta, worker: str) -> list[Claim]:
        """Hold at most `limit` due messages for `lease`, and return them; opens and commits its own transaction.

        Order: the queues in the order given; within a queue the higher priority first; within that, first in first
        out by the instant at which the message became due. A live claim has one holder: two callers never get the
        same message. Each claim counts one attempt and carries a fresh token. A message that cannot be read (no
        `enqueue` has written it) becomes a dead letter at once, and is not among them. Queues that are turned off
        give nothing.

        On a store with `Capability.FAIRNESS`, within a queue and priority the organizations take turns: in the long
        run each gets a share in proportion to its weight, whatever the others have waiting, what one does not use
        goes to the others, and first in first out holds within each. None runs more than its maximum, at any instant:
        claims of one namespace for which there is a maximum are made one at a time. And every sixteenth claim of a
        store begins with what has been due longer than `PG_QUEUE["AGING_SECONDS"]`, the oldest first whatever its
        priority. A store may look at a bounded number of organizations per claim; then others have their turn in the
        next ones.
        """
        ...

    def renew(self, claims: Sequence[tuple[uuid.UUID, uuid.UUID]], *, lease: timedelta) -> set[uuid.UUID]:
        """Extend the leases of `(message id, token)` pairs to now + `lease`; return the tokens that still hold.

        A lease that has run out still holds until `expire_claims` takes the message back. The claim of a token that is
        missing from the answer was lost: its execution must not be settled and should be stopped.
        """
        ...

    def note_progress(self, reports: Sequence[tuple[uuid.UUID, uuid.UUID, Progress]]) -> set[uuid.UUID]:
        """Note what executions say of themselves, as `(message id, token, progress)`; return the tokens that hold.

        `get` shows it, with the instant at which it was noted, until the message's next execution begins or it ends. A
        token that does not hold the message changes nothing. Opens and commits its own transaction.
        """
        ...

    def settle(self, settlements: Sequence[Settlement]) -> dict[uuid.UUID, Settled]:
        """Record what became of claims: result, ack and all that follows in one transaction; answers by token.

        The whole batch is one, but for this: of successes alone, those from which nothing follows may be committed
        before the others. Who was cut off settles the batch again; what was committed then answers `LOST`.

        Of a `Success` that is not to `keep` nothing stays where nobody needs the end: the message is unknown from then
        on, as if its result had outlived its time. Where somebody does, its outcome is kept without the value.

        A settlement whose token does not hold the message changes nothing and answers `LOST`; the others stand, also
        one of the same message under the token that does. A `Retry` whose attempts are used up becomes a death.
        Terminal states are final. The same transaction enqueues the continuations of the messages that have ended,
        publishes the settlements' events, and tells the barriers. What is to follow and cannot be stored, since its
        id is in use, is left out and logged: it keeps no message from ending.
        """
        ...

    def release(self, claims: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> set[uuid.UUID]:
        """Give back claims whose execution never began; the attempt is not counted. Returns the tokens given up."""
        ...

    def expire_claims(self, *, limit: int) -> int:
        """Take back at most `limit` claims whose lease has run out; return how many.

        A message with attempts left waits again, at once; one without becomes a dead letter whose failure says that
        its worker vanished: an end like any other, for continuations and barriers too.
        """
        ...

    def overdue_seconds(self) -> float:
        """For how long the oldest lease has run out that `expire_claims` has not taken back; 0 where there is none.

        Of all namespaces: it tells whether a reaper is at work.
        """
        ...

    def cancel(self, message_ids: Sequence[uuid.UUID], *, reason: str = "") -> set[uuid.UUID]:
        """End messages that wait or run as `CANCELLED`; return the ids of those that did. Joins the transaction.

        The claim of a running one is lost: its worker learns so at its next renewal and stops the execution, and what
        that settles answers `LOST`. Continuations on failure are enqueued, and a barrier that waits for it is aborted.
        The outcome's failure is of the type `message.cancelled`, and its text begins with `reason`: who, or why.
        """
        ...

    def get(self, message_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Message]:
        """The messages of these ids in whatever state they are; ids that are unknown or expired are left out."""
        ...

    def take_outcomes(self, report_to: str, *, limit: int, hold: timedelta = timedelta(0)) -> list[Message]:
        """Hand over at most `limit` terminal messages that were enqueued with this `report_to`, oldest first.

        Joins the caller's transaction: each outcome is handed over exactly once among committed transactions.
        Safe in parallel: concurrent callers get disjoint outcomes. A store without `Capability.TRANSACTIONS` hands
        what it was asked to `hold` over again after so long, in any order, unless `confirm_outcomes` was told of it.
        """
        ...

    def confirm_outcomes(self, report_to: str, outcomes: Sequence[Message]) -> None:
        """These were told to their consumer: they are held no longer. Does nothing about what was replayed since."""
        ...

    def retain(self, *, limit: int) -> int:
        """Delete at most `limit` outcomes, and as many of each other kind, past their time to live; return how many.

        The other kinds: dead letters, idempotency keys, barriers that have ended. An outcome that its consumer has not
        taken yet is kept.
        """
        ...

    def replay(self, message_ids: Sequence[uuid.UUID], *, keep_attempts: bool = False) -> set[uuid.UUID]:
        """Turn dead letters back into waiting messages with their attempts reset; return the ids replayed.

        With `keep_attempts` those that were made stay counted: what is left of them is left, at least one.
        Joins the caller's transaction. The failed results go, so a consumer of outcomes gets the next outcome too. A
        barrier that the death has aborted stays so. Each holds its key again, unless another message does by now.
        """
        ...

    def next_due_seconds(self, queues: Sequence[str]) -> float | None:
        """Seconds until the next unclaimed message of these queues is due, 0 when one is; None when there is none.

        Queues that are turned off have none.
        """
        ...

    def depths(self) -> Sequence[QueueDepth]:
        """Per queue: waiting, delayed, running, dead, and the age of the oldest due message."""
        ...


class Barriers(Protocol):
    """Fan-out and fan-in: some messages, and a callback when all of them have succeeded."""

    def create(
        self,
        members: Sequence[NewMessage],
        *,
        callback: NewMessage | None = None,
        on_abort: NewMessage | None = None,
        id: uuid.UUID | None = None,
    ) -> Barrier:
        """Enqueue `members` and the barrier that waits for them, all or none. Joins the caller's transaction.

        The callback is enqueued by the transaction in which the last member succeeds, exactly once and under an id
        that is known from the start; without members, at once. The first member that fails for good or is cancelled
        aborts the barrier, and `on_abort` is enqueued in its place; what the other members do then changes nothing.
        The cost is linear in the number of members. Raises: InvalidMessage (field `key`) for a member with a key: its
        message may be an older one that has ended already.
        """
        ...

    def get(self, barrier_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Barrier]:
        """The barriers of these ids; unknown and expired ones are left out."""
        ...


class Outbox(Protocol):
    """Events that are to leave the store: published with a transaction, relayed at least once after it.

    A relay leases events, tells the outside, and confirms. Dying anywhere between, it leaves the lease to run out.
    """

    def publish(self, events: Sequence[NewEvent]) -> list[uuid.UUID]:
        """Store `events`, and return their ids in the same order. Joins the caller's transaction."""
        ...

    def lease(self, topics: Sequence[str], *, limit: int, lease: timedelta) -> list[Event]:
        """Hold at most `limit` due events of these topics for `lease`, oldest first. Commits its own transaction.

        A live lease has one holder; one that has run out may be leased again by anyone.
        """
        ...

    def confirm(self, events: Sequence[Event]) -> set[uuid.UUID]:
        """Delete what was relayed; return the ids whose token still held. The others may be relayed once more."""
        ...

    def defer(self, events: Sequence[Event], *, delay: timedelta, error: str) -> set[uuid.UUID]:
        """Put off what could not be relayed, and why; return the ids whose token still held. Nothing is given up."""
        ...

    def get(self, event_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, PublishedEvent]:
        """The events of these ids that have not left yet, leased or not; the others are left out."""
        ...

    def drop(self, event_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """Delete events that are never to leave, and return the ids of those that were there. Joins the transaction.

        One that is leased may be on its way: its relay's token then holds no more.
        """
        ...

    def backlog(self) -> Sequence[Backlog]:
        """What waits, per topic. Exact."""
        ...


class Switches(Protocol):
    """An operator's switch per queue, and one for all queues of the namespace. Off: nothing new is claimed."""

    def turn(self, queue: str | None, *, is_on: bool, by: str, reason: str = "") -> Switch:
        """Turn one queue, or with None the whole namespace, on or off. Joins the caller's transaction.

        No claim that begins after this was committed returns a message of a queue that is off. What runs, runs on;
        enqueueing goes on. Turning it on wakes the workers. A queue is on only when its own switch and the namespace's
        are.
        """
        ...

    def list(self) -> Sequence[Switch]:
        """Every switch that was ever turned, the namespace's first, then by queue."""
        ...


class Locks(Protocol):
    """Named locks that outlive a process by at most their expiry."""

    def acquire(self, name: str, *, ttl: timedelta) -> uuid.UUID | None:
        """Take the lock until now + `ttl`; the owner's token, or None: another's holds. Joins the transaction."""
        ...

    def extend(self, name: str, owner: uuid.UUID, *, ttl: timedelta) -> bool:
        """Hold it until now + `ttl`; False: this owner no longer holds it. Joins the caller's transaction."""
        ...

    def release(self, name: str, owner: uuid.UUID) -> bool:
        """Give it up; False: this owner no longer held it. Joins the caller's transaction."""
        ...


class Limits(Protocol):
    """A bucket of tokens per name: how often something may begin, whoever asks for it.

    A bucket holds at most `burst` tokens and is full at first; they come back evenly. So in any span of time, no more
    are given than `burst` and what comes back within it, by the store's clock, however many ask at one time. Who asks
    says what the limit is; all should say the same.
    """

    def take(self, name: str, limit: RateLimit, *, wanted: int) -> Grant:
        """Take as many of `wanted` tokens as there are; 0 only asks. Opens and commits its own transaction."""
        ...

    def give_back(self, name: str, limit: RateLimit, *, count: int) -> None:
        """Put back tokens that were taken and not used. Opens and commits its own transaction."""
        ...


class Workers(Protocol):
    """The workers on record."""

    def announce(self, worker_id: str, *, host: str, process_id: int, queues: Sequence[str], concurrency: int) -> None:
        """Write down a worker that has just started."""
        ...

    def beat(
        self, worker_id: str, *, running: int, finished: int, failed: int, statistics: Mapping[str, Json] | None = None
    ) -> bool:
        """Say that the worker is alive, with its figures since its start. False: it is not on record (any more).

        `statistics`: what else it says of itself, in place of what it said before; None: that stays.
        """
        ...

    def sign_off(self, worker_id: str, *, finished: int, failed: int) -> None:
        """Mark the worker as stopped in good order."""
        ...

    def forget(self, *, older_than: timedelta, limit: int) -> int:
        """Delete at most `limit` workers without a heartbeat for that long; return how many."""
        ...

    def list(self) -> Sequence[WorkerView]:
        """All on record, the last heard of first; also those that stopped or vanished, until they are forgotten."""
        ...


class Operations(Protocol):
    """What an operator does by hand, in bounded batches."""

    def browse(
        self, *, queue: str | None = None, state: MessageState | None = None, limit: int, after: uuid.UUID | None = None
    ) -> Sequence[Message]:
        """At most `limit` messages that wait or run (None: both), by id, after this one. None in a terminal state."""
        ...

    def dead(self, *, queue: str | None = None, limit: int, after: uuid.UUID | None = None) -> Sequence[Message]:
        """At most `limit` dead letters by id, after this one, with their arguments."""
        ...

    def drop(self, message_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """Delete dead letters for good; return the ids of those that were there. Joins the caller's transaction."""
        ...

    def purge(self, queue: str, *, reason: str, limit: int) -> int:
        """Cancel at most `limit` waiting messages of a queue, as `QueueStore.cancel` does; return how many.

        Delayed ones too; what runs, runs on. Their outcome says why, so whoever waits for them learns it. Joins the
        caller's transaction.
        """
        ...

    def clear_completed(self, *, before: datetime, limit: int) -> int:
        """Delete at most `limit` outcomes that completed before this instant; return how many.

        One that its consumer has not taken yet is kept. A dead letter stays when the outcome of its failure goes.
        """
        ...


class Listener(Protocol):
    """Wakes an idle worker in milliseconds. Losing it costs nothing but waiting longer. One thread's own."""

    def fileno(self) -> int | None:
        """A descriptor that is readable when there may be something to hear; None while there is no connection."""
        ...

    def connect(self) -> bool:
        """Open the connection where there is none and it is time to; True when one was opened. Raises nothing."""
        ...

    def hear(self) -> bool:
        """Take what has arrived, without waiting; True when one of the queues may have work. Raises nothing.

        The queues of another namespace, and queues that it does not listen to, make it say False.
        """
        ...

    def close(self) -> None:
        """Give the connection up."""
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
