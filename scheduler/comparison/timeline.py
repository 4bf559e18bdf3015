"""Verdicts over time, in bins that are as wide as the time calls for: of ten minutes and of a month alike."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from scheduler.comparison.verdicts import Verdict

WIDTHS = [timedelta(minutes=each) for each in (1, 5, 15, 30, 60, 180, 360, 720, 1440, 10_080, 40_320, 524_160)]
"""How wide a bin may be; each is a multiple of the one before."""
MOST_BINS = 64
"""Between the first and the last; with more, they become wider. An hour has 61 where it begins within a minute."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Timeline:
    """How many of each verdict there are in each bin, by the bin's start (UTC); empty bins are left out."""

    def __init__(self) -> None:
        self.width = WIDTHS[0]
        self.bins: dict[datetime, Counter[Verdict]] = {}

    def add(self, at: datetime, verdict: Verdict) -> None:
        """Count one more, in any order of time."""
        start = floor(at, self.width)
        is_new = start not in self.bins
        self.bins.setdefault(start, Counter())[verdict] += 1
        if is_new:
            self._widen()

    def _widen(self) -> None:
        span, width = max(self.bins) - min(self.bins), self.width
        self.width = next((one for one in WIDTHS if one >= width and span / one < MOST_BINS - 1), WIDTHS[-1])
        if self.width == width:
            return
        narrow, self.bins = self.bins, {}
        for start, counted in narrow.items():
            self.bins.setdefault(floor(start, self.width), Counter()).update(counted)


def floor(at: datetime, width: timedelta) -> datetime:
    """The start of the bin that an aware instant lies in."""
    return at.astimezone(UTC) - (at - _EPOCH) % width
