"""A comparison as JSON values, and as one self-contained HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.template.loader import render_to_string

from scheduler.comparison.summary import LATENESS_BOUNDS, Comparison, ScheduleSummary
from scheduler.comparison.verdicts import Finding, Verdict

_MOST_BARS = 96
"""Bars of the chart over time; longer comparisons put several hours into one."""
_WIDTH, _HEIGHT = 960, 160


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison as JSON values: instants ISO 8601 in UTC, lateness in seconds."""
    return {
        "since": _instant(comparison.since),
        "until": _instant(comparison.until),
        "occurrences": comparison.occurrences,
        "verdicts": {verdict.value: comparison.verdicts[verdict] for verdict in Verdict},
        "causes": dict(sorted(comparison.causes.items())),
        "lateness_seconds": [
            {"at_most": bound, "sends": count}
            for bound, count in zip((*LATENESS_BOUNDS, None), comparison.lateness, strict=True)
        ],
        "schedules": [_schedule(one) for one in _by_trouble(comparison.schedules.values())],
        "differences": [finding_fields(finding) for finding in comparison.differences],
        "differences_not_listed": comparison.unlisted,
    }


def as_html(comparison: Comparison) -> str:
    """A page with charts (SVG), the schedules and the differences; light and dark."""
    return render_to_string("scheduler/comparison.html", page_context(comparison))


def page_context(comparison: Comparison) -> dict[str, Any]:
    """What the page, and the admin's, show."""
    names = {one.schedule_id: one.name for one in comparison.schedules.values()}
    return {
        "comparison": comparison,
        "verdicts": [(verdict.value, comparison.verdicts[verdict]) for verdict in Verdict],
        "causes": comparison.causes.most_common(),
        "hours": _hour_bars(comparison.hours),
        "lateness": _lateness_bars(comparison.lateness),
        "schedules": _by_trouble(comparison.schedules.values()),
        "differences": [(names[finding.schedule_id], finding) for finding in comparison.differences],
        "width": _WIDTH,
        "height": _HEIGHT,
    }


def finding_fields(finding: Finding) -> dict[str, Any]:
    """One finding as JSON values."""
    return {
        "schedule": str(finding.schedule_id),
        "scheduled_for": _instant(finding.scheduled_for),
        "verdict": finding.verdict.value,
        "cause": None if finding.cause is None else finding.cause.value,
        "reason": finding.sentence,
        "sent_at": [_instant(at) for at in finding.sent_ats],
        "late_seconds": finding.late_seconds,
    }


def _schedule(one: ScheduleSummary) -> dict[str, Any]:
    return {
        "id": str(one.schedule_id),
        "name": one.name,
        "verdicts": {verdict.value: one.verdicts[verdict] for verdict in Verdict},
        "clean_streak": one.clean_streak,
        "needed": one.needed,
        "is_ready": one.is_ready,
        "first_divergence": None if one.first_divergence is None else finding_fields(one.first_divergence),
    }


def _by_trouble(schedules: Iterable[ScheduleSummary]) -> list[ScheduleSummary]:
    """Those that are not ready first, then by name."""
    return sorted(schedules, key=lambda one: (one.is_ready, one.name, str(one.schedule_id)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A rectangle of a chart."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


def _hour_bars(hours: dict[datetime, Counter[Verdict]]) -> list[_Part]:
    """Stacked bars over time, one an hour or more, a part for each verdict."""
    if not hours:
        return []
    first, last = min(hours), max(hours)
    total = int((last - first) / timedelta(hours=1)) + 1
    each = -(-total // _MOST_BARS)
    bars: dict[int, Counter[Verdict]] = {}
    for hour, counted in hours.items():
        bars.setdefault(int((hour - first) / timedelta(hours=1)) // each, Counter()).update(counted)
    highest = max(sum(counted.values()) for counted in bars.values())
    width = _WIDTH / -(-total // each)
    return [
        part for bar, counted in sorted(bars.items())
        for part in _stack(bar * width, width, counted, highest, first + bar * each * timedelta(hours=1))
    ]  # fmt: skip


def _stack(x: float, width: float, counted: Counter[Verdict], highest: int, start: datetime) -> list[_Part]:
    parts, below = [], 0
    for verdict in Verdict:
        if count := counted[verdict]:
            below += count
            height = _HEIGHT * count / highest
            y = _HEIGHT * (1 - below / highest)
            title = f"{start:%Y-%m-%d %H:%M} UTC: {count} {verdict.value}"
            parts.append(_Part(x=x, y=y, width=max(1, width - 1), height=height, kind=verdict.value, title=title))
    return parts


def _lateness_bars(lateness: list[int]) -> list[tuple[str, int, float]]:
    """Label, sends, and share of the highest in percent."""
    labels = [*(f"≤ {bound:g} s" for bound in LATENESS_BOUNDS), f"> {LATENESS_BOUNDS[-1]:g} s"]
    highest = max(*lateness, 1)
    return [(label, count, 100 * count / highest) for label, count in zip(labels, lateness, strict=True)]


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
