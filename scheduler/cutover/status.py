"""Where the cutover stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count

from scheduler import beat
from scheduler.cutover import beats
from scheduler.cutover.progress import hints
from scheduler.dialect import is_sqlite
from scheduler.domain import Firer, HandoverMethod, Hold
from scheduler.errors import HandoverRefused
from scheduler.models import BeatProcess, Handover, PgPeriodicSchedule
from scheduler.querysets import HandoverQuerySet
from scheduler.settings import scheduler_settings

LATEST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoverStatus:
    """Of the schedules of some organizations."""

    beats: int
    """Schedules that Beat fires."""
    pgs: int
    """That PG fires, those that are on the way from Beat or back included."""
    to_pg: int
    """On the way to PG: what Beat has sent of them is not known yet."""
    to_beat: int
    """On the way back."""
    live_beats: tuple[BeatProcess, ...]
    method: HandoverMethod | None
    """How a schedule would be handed over now; None: it would be refused."""
    obstacle: str
    """Why it would be refused; empty: it would not."""
    waiting: tuple[Handover, ...]
    """The oldest first, with a hint where one waits for long."""
    hints: dict[int, str]
    """By hand-over: what to do about it."""
    latest: tuple[Handover, ...]
    """The last that ended."""
    names: dict[UUID, str]
    """Of the schedules of these hand-overs that are there, by id."""


def status(organizations: Collection[str] | None = None) -> CutoverStatus:
    """Where the cutover of these organizations (None: of all) stands. Reads only."""
    rows = PgPeriodicSchedule.objects.using(_alias()).all()
    handovers = Handover.objects.using(_alias()).all()
    if organizations is not None:
        rows, handovers = rows.for_organizations(organizations), handovers.for_organizations(organizations)
    by_firer = Counter(dict(rows.order_by().values_list("firer").annotate(Count("pk"))))
    method, obstacle = _method()
    live = tuple(BeatProcess.objects.using(_alias()).live())
    waiting = tuple(handovers.waiting()[:1000])
    latest = _latest(handovers)
    ids = {one.schedule_id for one in (*waiting, *latest)}
    return CutoverStatus(
        beats=by_firer[Firer.BEAT.value],
        pgs=by_firer[Firer.PG.value],
        to_pg=rows.filter(firer=Firer.PG.value, hold=Hold.HANDOVER.value, beat_from__isnull=True).count(),
        to_beat=rows.filter(beat_from__isnull=False).count(),
        live_beats=live,
        method=method,
        obstacle=obstacle,
        waiting=waiting,
        hints=hints(waiting, live),
        latest=latest,
        names=dict(rows.filter(pk__in=ids).values_list("pk", "pipeline_name")),
    )


def _latest(handovers: HandoverQuerySet) -> tuple[Handover, ...]:
    return tuple(handovers.filter(ended_at__isnull=False).latest_first()[:LATEST])


def _method() -> tuple[HandoverMethod | None, str]:
    if is_sqlite():
        return None, "the schedules are kept in SQLite: there is nothing to hand over"
    if not beat.is_installed():
        return None, "django-celery-beat is not installed: there is nothing to hand over"
    try:
        return beats.look_around().method, ""
    except HandoverRefused as error:
        return None, str(error)


def _alias() -> str:
    return scheduler_settings().database
