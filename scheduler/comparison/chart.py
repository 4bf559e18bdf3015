"""The chart of a comparison over time, as the parts of an SVG."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from scheduler.comparison.timeline import WIDTHS, Timeline, floor
from scheduler.comparison.verdicts import Verdict

WIDTH = 960
_BARS, _ABOVE, _BELOW = 160, 16, 20
"""Heights: of the bars, of the line above for what the highest stands for, of the one below for the times."""
_FEWEST = 12
"""Bars that there is room for: fewer would be as wide as blocks."""
_MOST_LABELS = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A time at the axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Stacked bars, a part for each verdict, over an axis of times."""

    since: datetime
    until: datetime
    each: str
    """How long a bar is, in words."""
    highest: int
    """Occurrences of the highest bar."""
    parts: list[Part] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    width: int = WIDTH
    height: int = _ABOVE + _BARS + _BELOW
    top: int = _ABOVE
    base: int = _ABOVE + _BARS


def draw(timeline: Timeline) -> Chart | None:
    """The time that has occurrences, from its first bin to its last; None: there is nothing to draw."""
    if not timeline.bins:
        return None
    each, end = timeline.width, max(timeline.bins) + timeline.width
    start = min(min(timeline.bins), end - _FEWEST * each)
    scale = WIDTH / ((end - start) / each)
    highest = max(sum(counted.values()) for counted in timeline.bins.values())
    return Chart(
        since=start,
        until=end,
        each=_words(each),
        highest=highest,
        parts=[
            part for at, counted in sorted(timeline.bins.items())
            for part in _stack((at - start) / each * scale, scale, counted, highest, at)
        ],
        labels=_labels(start, end),
    )  # fmt: skip


def _stack(x: float, width: float, counted: Counter[Verdict], highest: int, start: datetime) -> list[Part]:
    parts, below = [], 0
    for verdict in Verdict:
        if count := counted[verdict]:
            below += count
            height = _BARS * count / highest
            y = _ABOVE + _BARS * (1 - below / highest)
            title = f"{start:%Y-%m-%d %H:%M} UTC: {count} {verdict.value}"
            parts.append(Part(x=x, y=y, width=max(1, width - 1), height=height, kind=verdict.value, title=title))
    return parts


def _labels(start: datetime, end: datetime) -> list[Label]:
    """At round times, no more than there is room for; where a day begins, its date."""
    step = next((one for one in WIDTHS if (end - start) / one < _MOST_LABELS), WIDTHS[-1])
    at, labels = floor(start, step), []
    while at <= end:
        x = WIDTH * ((at - start) / (end - start))
        if WIDTH * 0.03 <= x <= WIDTH * 0.97:  # a text is centred, and would be cut off at an edge
            labels.append(Label(x=x, text=_time(at, step)))
        at += step
    return labels


def _time(at: datetime, step: timedelta) -> str:
    if step > timedelta(days=27):
        return f"{at:%Y-%m-%d}"
    return f"{at:%d %b}" if at == floor(at, timedelta(days=1)) else f"{at:%H:%M}"


def _words(each: timedelta) -> str:
    units = (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1)))
    name, unit = next((name, unit) for name, unit in units if each >= unit)
    count = each // unit
    return f"{count} {name}{'s' if count > 1 else ''}"
