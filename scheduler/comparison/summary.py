"""Adds findings up: counts, the distribution of lateness, the first divergence and the readiness of each schedule."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from scheduler.comparison.timeline import Timeline
from scheduler.comparison.verdicts import Finding, Verdict

LATENESS_BOUNDS = (0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
"""Seconds; the upper bounds of the histogram's bars, the last of which is open."""
MOST_DIFFERENCES = 1000
"""How many differences a comparison lists; all are counted."""


@dataclass(slots=True, kw_only=True)
class ScheduleSummary:
    """What was found of one schedule."""

    schedule_id: UUID
    name: str
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    first_divergence: Finding | None = None
    """The first that is not a match."""
    last_unclean: Finding | None = None
    """The last that speaks against handing over."""
    clean_streak: int = 0
    """Occurrences that Beat has sent, all of them clean, since the last that was not."""
    needed: int = 0
    """Clean occurrences that a hand-over asks for."""

    @property
    def is_ready(self) -> bool:
        """Whether the evidence is enough to hand it over."""
        return self.clean_streak >= self.needed

    def add(self, finding: Finding) -> None:
        """Count one more, the next in time."""
        self.verdicts[finding.verdict] += 1
        self.clean_streak += finding.is_evidence
        if not finding.is_clean:
            self.clean_streak, self.last_unclean = 0, finding
        if self.first_divergence is None and finding.verdict is not Verdict.MATCH:
            self.first_divergence = finding


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What was found of all schedules between two instants."""

    since: datetime
    until: datetime
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    """By name, of whatever is not a match."""
    lateness: list[int] = field(default_factory=lambda: [0] * (len(LATENESS_BOUNDS) + 1))
    """How many of Beat's sends were so late, by `LATENESS_BOUNDS`."""
    timeline: Timeline = field(default_factory=Timeline)
    """Verdicts by the time of the occurrence."""
    schedules: dict[UUID, ScheduleSummary] = field(default_factory=dict)
    differences: list[Finding] = field(default_factory=list)
    """The first of what is not a match, by schedule and instant; at most `MOST_DIFFERENCES`."""

    @property
    def occurrences(self) -> int:
        """How many were compared."""
        return sum(self.verdicts.values())

    @property
    def unlisted(self) -> int:
        """Differences that are counted and not listed."""
        return self.occurrences - self.verdicts[Verdict.MATCH] - len(self.differences)

    def add(self, finding: Finding, schedule: ScheduleSummary) -> None:
        """Count one finding, the next in time of its schedule."""
        schedule.add(finding)
        self.verdicts[finding.verdict] += 1
        self.timeline.add(finding.scheduled_for, finding.verdict)
        if finding.late_seconds is not None:
            self.lateness[_bar(finding.late_seconds)] += 1
        if finding.verdict is not Verdict.MATCH:
            self.causes["unexplained" if finding.cause is None else finding.cause.value] += 1
            if len(self.differences) < MOST_DIFFERENCES:
                self.differences.append(finding)


def _bar(seconds: float) -> int:
    return next((bar for bar, bound in enumerate(LATENESS_BOUNDS) if seconds <= bound), len(LATENESS_BOUNDS))
