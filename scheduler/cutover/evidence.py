"""Whether what was compared of a schedule is enough to hand it over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from scheduler import clock
from scheduler.comparison import Finding, compare
from scheduler.models import PgPeriodicSchedule
from scheduler.settings import scheduler_settings

_WINDOWS = timedelta(hours=1), timedelta(days=1), timedelta(days=7), timedelta(days=90)
"""How far back it is looked, one after the other, for the schedules of which the one before did not show enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Of one schedule."""

    clean: int
    """Occurrences in a row, up to the latest, that compared clean."""
    needed: int
    last_difference: Finding | None = None
    """What ended the row before; None: nothing did."""

    @property
    def is_enough(self) -> bool:
        """Whether it may be handed over."""
        return self.clean >= self.needed

    @property
    def sentence(self) -> str:
        """For people."""
        told = f"{self.clean} of {self.needed} occurrences in a row compared clean"
        if self.last_difference is None:
            return told
        found = self.last_difference
        why = f", {found.cause.value}" if found.cause else ""
        return f"{told} since {found.scheduled_for:%Y-%m-%d %H:%M:%S} UTC ({found.verdict.value}{why})"

    def as_json(self) -> dict[str, Any]:
        """To be kept with a hand-over."""
        return {"clean": self.clean, "needed": self.needed, "sentence": self.sentence}


def gather(schedules: Iterable[PgPeriodicSchedule]) -> dict[UUID, Evidence]:
    """The evidence of each, by id. Reads only."""
    now = clock.now(scheduler_settings().database)
    open_ones = {row.pk: row for row in schedules}
    found: dict[UUID, Evidence] = {}
    for window in _WINDOWS:
        if not open_ones:
            break
        compared = compare(since=now - window, schedules=list(open_ones.values())).schedules
        for schedule_id in list(open_ones):
            summary = compared.get(schedule_id)
            found[schedule_id] = Evidence(
                clean=summary.clean_streak if summary else 0,
                needed=scheduler_settings().clean_occurrences,
                last_difference=summary.last_unclean if summary else None,
            )
            if found[schedule_id].is_enough or found[schedule_id].last_difference is not None:
                del open_ones[schedule_id]
    return found
