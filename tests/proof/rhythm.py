"""Where the occurrences of a schedule lie, told from its kind and its expression alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduler.recurrence import next_occurrences, period


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Of a crontab in UTC, or of an interval."""

    kind: str
    expression: str

    @property
    def step(self) -> timedelta | None:
        """An interval's period; None: it is none."""
        return period(self.expression) if self.kind == "interval" else None

    def after(self, at: datetime) -> datetime:
        """The occurrence that follows one at `at`; of an interval that was sent, or begins, at `at`."""
        if self.step:
            return at + self.step
        return next_occurrences(kind=self.kind, expression=self.expression, timezone="UTC", after=at, count=1)[0]

    def ahead(self, position: datetime, at: datetime) -> datetime:
        """The first occurrence after `at` from `position` on."""
        if position > at:
            return position
        return position + ((at - position) // self.step + 1) * self.step if self.step else self.after(at)

    def count(self, since: datetime, until: datetime) -> int:
        """How many lie from the occurrence `since` on, and before `until`."""
        if self.step:
            return max(0, -((since - until) // self.step))
        found = 0
        while since < until:
            since, found = self.after(since), found + 1
        return found
