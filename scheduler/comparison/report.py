"""A comparison as JSON values, and as one self-contained HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.template.loader import render_to_string

from scheduler.comparison.chart import draw
from scheduler.comparison.summary import LATENESS_BOUNDS, Comparison, ScheduleSummary
from scheduler.comparison.verdicts import Finding, Verdict


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
        "chart": draw(comparison.timeline),
        "lateness": _lateness_bars(comparison.lateness),
        "schedules": _by_trouble(comparison.schedules.values()),
        "differences": [(names[finding.schedule_id], finding) for finding in comparison.differences],
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


def _lateness_bars(lateness: list[int]) -> list[tuple[str, int, float]]:
    """Label, sends, and share of the highest in percent."""
    labels = [*(f"≤ {bound:g} s" for bound in LATENESS_BOUNDS), f"> {LATENESS_BOUNDS[-1]:g} s"]
    highest = max(*lateness, 1)
    return [(label, count, 100 * count / highest) for label, count in zip(labels, lateness, strict=True)]


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
