"""The queue as a few lines of Python: what the stateful test holds a store against."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pg_queue.domain import TERMINAL_STATES, Claim, MessageState, NewMessage

WAITING, RUNNING = MessageState.WAITING, MessageState.RUNNING


@dataclass(eq=False)
class Entry:
    """One message."""

    id: uuid.UUID
    queue: str
    priority: int
    organization_id: str
    max_attempts: int
    due_at: float
    number: int
    """In the order of enqueueing."""
    state: MessageState = WAITING
    attempts: int = 0
    is_dead: bool = False
    is_forgotten: bool = False
    """It succeeded, and nothing was to be kept of it."""
    token: uuid.UUID | None = None
    lease_until: float = 0.0
    has_moved: bool = False
    """Tried again or replayed: its place among others that became due in the same step is not known here."""

    @property
    def turn(self) -> tuple[str, int, str]:
        """First in is first out among those that share it."""
        return self.queue, self.priority, self.organization_id


@dataclass
class Model:
    """All messages, and the time that the test has let pass."""

    now: float = 0.0
    entries: dict[uuid.UUID, Entry] = field(default_factory=dict)
    off: set[str] = field(default_factory=set)
    """Queues that are turned off."""

    def add(self, messages: Sequence[NewMessage], ids: Sequence[uuid.UUID], *, delay: float) -> None:
        """Messages that were enqueued."""
        for message, message_id in zip(messages, ids, strict=True):
            assert message_id not in self.entries
            self.entries[message_id] = Entry(
                id=message_id,
                queue=message.queue,
                priority=message.priority,
                organization_id=message.organization_id,
                max_attempts=message.max_attempts or 0,
                due_at=self.now + delay,
                number=len(self.entries),
            )

    def due(self, queues: Iterable[str]) -> list[Entry]:
        """What may be claimed."""
        queues = set(queues) - self.off
        return [e for e in self.of(WAITING) if e.queue in queues and e.due_at <= self.now]

    def of(self, *states: MessageState) -> list[Entry]:
        """The messages in these states, in the order of enqueueing."""
        return [e for e in self.entries.values() if e.state in states]

    def claimed(self, claims: Sequence[Claim], *, lease: float) -> None:
        """Claims that were made."""
        for claim in claims:
            entry = self.entries[claim.message.id]
            entry.state, entry.token, entry.lease_until = RUNNING, claim.token, self.now + lease
            entry.attempts += 1
            assert claim.message.attempts == entry.attempts

    def wait(self, entry: Entry, *, delay: float | None = None) -> None:
        """It waits again: where it stood (None), or after `delay`."""
        entry.state, entry.token = WAITING, None
        if delay is not None:
            entry.due_at, entry.has_moved = self.now + delay, True

    def end(self, entry: Entry, state: MessageState) -> None:
        """It has ended."""
        assert state in TERMINAL_STATES
        entry.state, entry.token, entry.is_dead = state, None, state is MessageState.FAILED

    def rise(self, entry: Entry) -> None:
        """A dead letter was replayed."""
        self.wait(entry, delay=0)
        entry.attempts, entry.is_dead = 0, False

    def overtaken(self, claimed: Sequence[Entry], due: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
        """Pairs of (claimed, left) where the one that was left had come first, in one turn."""
        left = [e for e in due if e not in claimed and not e.has_moved]
        return [
            (took, passed)
            for took in claimed
            for passed in left
            if not took.has_moved
            and took.turn == passed.turn
            and (passed.due_at, passed.number) < (took.due_at, took.number)
        ]

    def depths(self) -> dict[str, tuple[int, int, int, int]]:
        """Per queue that has any: waiting, delayed, running, dead."""
        found = {}
        for queue in sorted({e.queue for e in self.entries.values()}):
            here = [e for e in self.entries.values() if e.queue == queue]
            waiting = sum(e.state is WAITING and e.due_at <= self.now for e in here)
            delayed = sum(e.state is WAITING and e.due_at > self.now for e in here)
            counts = (waiting, delayed, sum(e.state is RUNNING for e in here), sum(e.is_dead for e in here))
            if any(counts):
                found[queue] = counts
        return found
