"""What happened to one schedule around an instant, in order, for whoever has to find the cause."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from tests.proof.evidence import Evidence

AROUND = timedelta(minutes=3)
MOST = 40


def lines(evidence: Evidence, schedule_id: UUID, at: datetime) -> list[str]:
    """The nearest events, at most so many, the earliest first."""
    found = list(_events(evidence, schedule_id))
    found += [(fault.began_at, f"Beat {fault.what} until {fault.ended_at:%H:%M:%S.%f}") for fault in evidence.faults]
    near = sorted((event for event in found if abs(event[0] - at) <= AROUND), key=lambda event: abs(event[0] - at))
    return [f"{when:%H:%M:%S.%f} {told}" for when, told in sorted(near[:MOST])]


def _events(evidence: Evidence, schedule_id: UUID) -> Iterator[tuple[datetime, str]]:
    for run in evidence.runs:
        if run.schedule_id == schedule_id and (run.firer == "pg" or not run.is_fired):
            span = f" to {run.span_end:%H:%M:%S.%f}" if run.span_end else ""
            yield run.scheduled_for, f"ledger: {run.firer} {run.state} {run.reason}{span}"
    for send in evidence.sends:
        if send.schedule_id == schedule_id:
            first = "first" if send.is_first else "not first"
            yield send.sent_at, f"Beat's send for {send.scheduled_for:%H:%M:%S.%f}: {send.state}, {first}"
    for execution in evidence.executions:
        if execution.beat_name == str(schedule_id) and execution.published_at is not None:
            yield execution.published_at, "published by Beat, and executed"
    yield from _ordered(evidence, schedule_id)


def _ordered(evidence: Evidence, schedule_id: UUID) -> Iterator[tuple[datetime, str]]:
    """What people did."""
    for change in evidence.changes:
        if change.schedule_id == schedule_id:
            yield change.at, f"change: {change.fields}"
    for one in evidence.handovers:
        if one.schedule_id == schedule_id:
            yield one.requested_at, f"hand-over to {one.to_firer} by {one.method}, from {one.beat_from} on"
            if one.ended_at:
                yield one.ended_at, f"hand-over to {one.to_firer}: {one.state}"
