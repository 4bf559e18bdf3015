"""How much may be held beforehand by what runs tasks one after the other: as much as it runs in a moment."""

from __future__ import annotations

from dataclasses import dataclass

AHEAD_SECONDS = 0.05
"""So much work is claimed beforehand: few large claims cost less than many small ones."""
RECALL_SECONDS = 0.2
"""What waits behind a task that runs longer than this is given back."""


@dataclass(slots=True)
class Pace:
    """How long recent executions took."""

    average_seconds: float | None = None
    """None before the first."""

    def note(self, seconds: float) -> None:
        """One has ended. A long one counts at once: the next may be like it."""
        before = self.average_seconds
        self.average_seconds = seconds if before is None or seconds > RECALL_SECONDS else before * 0.8 + seconds * 0.2

    def ahead(self, most: int) -> int:
        """How many are expected to be run in that moment; before the first, none."""
        if self.average_seconds is None:
            return 0
        return min(most, int(AHEAD_SECONDS / max(self.average_seconds, 1e-6)))
