"""Herds: minutes in which many schedules are due at once. Pure.

Intervals are left out: in which minutes they are due depends on when each was sent last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduler.domain import ScheduleKind
from scheduler.recurrence import Cadence
from scheduler.recurrence.kinds import kind_of

LEAST = 10
"""Schedules that make a herd."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """Schedules that are due together."""

    first_at: datetime
    """The first minute in which they are."""
    minutes: int
    """How many minutes there are in which the very same ones are due."""
    names: tuple[str, ...]


def find_herds(named: Iterable[tuple[str, Cadence]], after: datetime, *, hours: int = 24, most: int = 5) -> list[Herd]:
    """The `most` largest herds of at least `LEAST` among schedules in the hours after `after`, the largest first.

    Raises:
        InvalidInput: a cadence that means nothing.
    """
    names: dict[Cadence, list[str]] = defaultdict(list)
    for name, cadence in named:
        if cadence.kind != ScheduleKind.INTERVAL:
            names[cadence].append(name)
    due: dict[datetime, list[Cadence]] = defaultdict(list)
    for cadence in names:
        for minute in {at.replace(second=0, microsecond=0) for at in _within(cadence, after, timedelta(hours=hours))}:
            due[minute].append(cadence)
    together: dict[tuple[Cadence, ...], list[datetime]] = defaultdict(list)
    for minute, cadences in due.items():
        together[tuple(cadences)].append(minute)
    herds = [
        Herd(first_at=min(minutes), minutes=len(minutes), names=tuple(sorted(n for c in cadences for n in names[c])))
        for cadences, minutes in together.items()
        if sum(len(names[cadence]) for cadence in cadences) >= LEAST
    ]
    return sorted(herds, key=lambda herd: (-len(herd.names), herd.first_at))[:most]


def _within(cadence: Cadence, after: datetime, length: timedelta) -> Iterator[datetime]:
    recurrence = kind_of(cadence.kind).read(cadence.expression, cadence.timezone, cadence.dialect)
    at = recurrence.following(after)
    while at is not None and at < after + length:
        yield at
        at = recurrence.following(at)
