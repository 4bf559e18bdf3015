"""Celery Beat's runs beside what the tick would have fired, occurrence by occurrence.

The shadow (`scheduler.tick`) records what the tick would have fired of the schedules that Beat fires; the journal
(`scheduler.beat`) what Beat was seen to send. Here the two are laid side by side, each occurrence gets a verdict, and
each difference the name of its cause:

- `verdicts`: the words;
- `causes`: how a cause is recognised;
- `pairing`: the occurrences of one schedule;
- `timeline`: verdicts over time;
- `summary`: counts, lateness, first divergences, readiness;
- `compare`, here: reads the database, and adds up.

Beat is not ground truth: a difference that follows from a habit of Beat's counts as clean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from django.db import connections

from scheduler import beat, clock, grid
from scheduler.beat import rows
from scheduler.beat.evaluation import BeatSchedule
from scheduler.comparison.causes import Circumstances, Life
from scheduler.comparison.pairing import Sides, judge_all
from scheduler.comparison.summary import Comparison, ScheduleSummary
from scheduler.comparison.verdicts import Cause, Circumstance, Finding, Verdict
from scheduler.errors import InvalidInput
from scheduler.models import PgPeriodicSchedule
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

__all__ = [
    "Cause",
    "Circumstance",
    "Comparison",
    "Finding",
    "ScheduleSummary",
    "Verdict",
    "compare",
]

SETTLED = timedelta(seconds=15)
"""Later than so long ago nothing is compared: Beat may still be late, and its sends on their way to the journal."""


def compare(
    *, since: datetime, until: datetime | None = None, schedules: Iterable[PgPeriodicSchedule] | None = None
) -> Comparison:
    """Compare the occurrences in `since <= occurrence < until`, both aware; `until` None: as late as is settled.

    `schedules` None: all that are there. Reads only; its memory does not grow with the number of occurrences.

    Raises:
        InvalidInput: field `since` or `until`: naive, or not in this order.
        BeatUnavailable: the schedules are kept in SQLite.
    """
    beat.refuse_sqlite("compare_runs")
    _check(since, until)
    settled = clock.now(_alias()) - SETTLED
    last = settled if until is None else min(until, settled)
    chosen = _chosen(schedules)
    made = Comparison(since=since, until=max(since, last))
    window = {"since": since, "until": made.until, "schedules": None if schedules is None else list(chosen)}
    known = _Knowledge(window)
    for schedule_id, sides in groupby(_occurrences(window), key=lambda one: one.schedule_id):
        row = chosen.get(schedule_id)
        if row is None:
            continue  # deleted since
        summary = ScheduleSummary(schedule_id=schedule_id, name=row.pipeline_name, needed=_needed())
        made.schedules[schedule_id] = summary
        for finding in judge_all(sides, known.of(row)):
            made.add(finding, summary)
    return made


def _check(since: datetime, until: datetime | None) -> None:
    for field, instant in (("since", since), ("until", until)):
        if instant is not None and instant.utcoffset() is None:
            raise InvalidInput(field=field, expected="a datetime with a time zone (an aware one)", got=instant)
    if until is not None and until <= since:
        raise InvalidInput(field="until", expected=f"an instant after since ({since})", got=until)


class _Knowledge:
    """What is known around the schedules of a comparison, read once."""

    def __init__(self, window: dict[str, Any]) -> None:
        self._lives = [
            Life(process_id=process_id, started_at=started_at, ended_at=ended_at)
            for process_id, started_at, ended_at in _query("lives", window)
        ]
        self._changes: dict[UUID, list[tuple[datetime, str]]] = {}
        for schedule_id, changed_at, action in _query("changes", window):
            self._changes.setdefault(schedule_id, []).append((changed_at, action))
        self._unfired: dict[UUID, list[tuple[datetime, datetime]]] = {}
        for schedule_id, first, last, _ in _query("unfired", window):
            self._unfired.setdefault(schedule_id, []).append((first, last))

    def of(self, row: PgPeriodicSchedule) -> Circumstances:
        """Around one schedule."""
        return Circumstances(
            cadence=grid.cadence_of(row),
            beat=_as_beat_holds(row),
            lives=self._lives,
            changes=self._changes.get(row.pk, ()),
            unfired=self._unfired.get(row.pk, ()),
        )


def _as_beat_holds(row: PgPeriodicSchedule) -> BeatSchedule | None:
    try:
        times = rows.express(row)
    except InvalidInput:
        return None
    return None if times is None else BeatSchedule(times=times, timezone=row.timezone)


def _chosen(schedules: Iterable[PgPeriodicSchedule] | None) -> dict[UUID, PgPeriodicSchedule]:
    found = PgPeriodicSchedule.objects.using(_alias()).all() if schedules is None else schedules
    return {row.pk: row for row in found}


def _occurrences(window: dict[str, Any]) -> Iterator[Sides]:
    with connections[_alias()].chunked_cursor() as cursor:
        cursor.execute(statements("comparison")["occurrences"], window)
        while batch := cursor.fetchmany(5000):
            for schedule_id, scheduled_for, is_expected, is_pgs, sent_ats, process_ids in batch:
                yield Sides(schedule_id, scheduled_for, is_expected, is_pgs, tuple(sent_ats), tuple(process_ids))


def _query(name: str, window: dict[str, Any]) -> Sequence[Any]:
    with connections[_alias()].cursor() as cursor:
        cursor.execute(statements("comparison")[name], window)
        return list(cursor.fetchall())


def _needed() -> int:
    return scheduler_settings().clean_occurrences


def _alias() -> str:
    return scheduler_settings().database
