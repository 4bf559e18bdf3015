"""What became of one schedule that was to change its firer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from scheduler.cutover.evidence import Evidence
from scheduler.domain import Firer
from scheduler.models import Handover


class AnswerStatus(StrEnum):
    """In a word."""

    DONE = "done"
    """It has the new firer."""
    WAITING = "waiting"
    """It is under way; the hand-over tells how far."""
    CANCELLED = "cancelled"
    """A hand-over that waited was taken back: Beat fires it, as before."""
    UNCHANGED = "unchanged"
    """It has that firer already, or is on the way there."""
    REFUSED = "refused"
    READY = "ready"
    """Of a plan: it would be handed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One schedule's."""

    schedule_id: UUID
    name: str
    status: AnswerStatus
    to: Firer = Firer.PG
    """The firer that was asked for."""
    reason: str = ""
    """Why it was refused, or is unchanged; what has to be known."""
    handover: Handover | None = None
    evidence: Evidence | None = None
    remarks: list[str] = field(default_factory=list)
    """Of a plan: what will be different once PG fires it."""

    @property
    def is_refused(self) -> bool:
        """Whether it stays as it was although it should not."""
        return self.status is AnswerStatus.REFUSED
