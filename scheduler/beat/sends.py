"""The words for what Celery Beat sends, and for the process that sends it. No I/O, and nothing of Celery."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from scheduler.domain import BeatMode, SendState


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of Celery Beat."""

    id: UUID
    host: str
    process_id: int
    scheduler: str
    """Dotted path of its scheduler class."""
    mode: BeatMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One send, as the process that makes it knows it."""

    beat_name: str
    """Name of Beat's entry; the task's where the entry's is not known."""
    message_id: str
    """Celery's id of the task."""
    sent_at: datetime
    """By Beat's clock."""
    state: SendState = SendState.SENT
    is_entry: bool = True
    """Whether `beat_name` is an entry's; if not, no mirror is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The answer to a send that asked for its occurrence."""

    id: int
    """Of its `BeatSend`."""
    schedule_id: UUID
    scheduled_for: datetime | None
    """None: the occurrence could not be named, and the claim is refused."""
    sent_at: datetime
    is_refused: bool


@dataclass(slots=True)
class Tally:
    """How many sends a process has made, by what became of them. Each number has one writing thread."""

    sent: int = 0
    refused: int = 0
    failed: int = 0
    dropped: int = 0
    """Not recorded, because the database refused the row itself."""
    overflowed: int = 0
    """Not recorded, because too many were waiting already."""

    @property
    def lost(self) -> int:
        """Sends that no row tells of."""
        return self.dropped + self.overflowed
