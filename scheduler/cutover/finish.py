"""Whether anything is left with Celery Beat, and how to remove it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from scheduler import beat
from scheduler.beat import entries, extras, rows
from scheduler.beat.names import is_canary
from scheduler.domain import Firer
from scheduler.models import BeatProcess, BeatSend, Handover, PgPeriodicSchedule
from scheduler.querysets import ScheduleQuerySet
from scheduler.settings import scheduler_settings

TABLES = "periodictask", "periodictasks", "crontabschedule", "intervalschedule", "clockedschedule", "solarschedule"
"""dcb's, without their common prefix, in an order in which they can be dropped."""


class LeftKind(StrEnum):
    """What is left."""

    SCHEDULE = "schedule"
    """Beat fires it, or would if it were not paused."""
    HANDOVER = "handover"
    """It is under way."""
    BEAT_ROW = "beat_row"
    """A row of Beat's that no schedule mirrors."""
    ENTRY = "entry"
    """The same of an entry of `beat_schedule`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Something that keeps Beat from being removed."""

    kind: LeftKind
    name: str
    hint: str
    """What to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Whether Beat can be removed."""

    left: tuple[Left, ...]
    """Empty: it can."""
    notes: tuple[str, ...]
    """What is worth a look before it goes, and keeps nobody from it."""
    steps: tuple[str, ...]
    """How to remove it, in order; none while something is left."""


def finish() -> Finish:
    """Look at what is left with Beat. Reads only."""
    if not beat.is_installed():
        return Finish(left=tuple(_left_schedules()), notes=(), steps=())
    left = (*_left_schedules(), *_left_handovers(), *_left_rows())
    return Finish(left=left, notes=tuple(_notes()), steps=() if left else tuple(_steps()))


def _left_schedules() -> Iterator[Left]:
    found = _beats().exclude(task=extras.CLEAN_UP).order_by("pipeline_name", "pipeline_id")
    for schedule_id, name in found.values_list("pk", "pipeline_name"):
        hint = f"`manage.py cutover promote --schedule {schedule_id}`, or `manage.py schedules delete {schedule_id}`"
        yield Left(kind=LeftKind.SCHEDULE, name=name, hint=hint)


def _left_handovers() -> Iterator[Left]:
    for handover in Handover.objects.using(_alias()).waiting():
        hint = f"to {handover.to_firer} since {handover.requested_at:%H:%M:%S} UTC: `manage.py cutover status`"
        yield Left(kind=LeftKind.HANDOVER, name=handover.beat_name, hint=hint)


def _left_rows() -> Iterator[Left]:
    known = {extras.CLEAN_UP, *PgPeriodicSchedule.objects.using(_alias()).values_list("beat_name", flat=True)}
    there = rows.names()
    hint = "`manage.py import_beat`, then hand it over; or delete it"
    for name in there:
        if name not in known and not is_canary(name):
            yield Left(kind=LeftKind.BEAT_ROW, name=name, hint=hint)
    for name in sorted(set(entries.conf_entries()) - known - set(there)):
        yield Left(kind=LeftKind.ENTRY, name=name, hint=hint)


def _notes() -> Iterator[str]:
    unknown = BeatSend.objects.using(_alias()).unknown().count()
    if unknown:
        yield f"{unknown} sends of Celery Beat are unknown: look whether their tasks have run (admin: Beat sends)"
    if entries.conf_entries():
        yield "beat_schedule of the Celery app still has entries: Celery Beat would write their rows again if started"


def _steps() -> Iterator[str]:
    live = tuple(BeatProcess.objects.using(_alias()).live())
    running = f" ({', '.join(map(str, live))} lives)" if live else ""
    yield f"Stop Celery Beat{running}, and take its service away, so that no deployment starts it again."
    for schedule in _beats().filter(task=extras.CLEAN_UP):
        yield (
            f"Delete {schedule.pipeline_name!r} (`manage.py schedules delete {schedule.pk} --yes`); or, where Celery "
            "keeps results in a database, have PG fire it "
            f"(`manage.py cutover promote --schedule {schedule.pk} --force`)."
        )
    yield "Take beat_schedule, beat_scheduler and what else is Beat's out of the Celery app's configuration."
    yield "Take 'django_celery_beat' out of INSTALLED_APPS, deploy, and restart schedulers, workers and the web."
    yield "Uninstall it: pip uninstall django-celery-beat."
    yield f"When you are sure not to go back: {drop_tables()}"


def drop_tables() -> str:
    """SQL that removes dcb's tables, and what Django remembers of its migrations."""
    names = ", ".join(f"django_celery_beat_{table}" for table in TABLES)
    return f"DROP TABLE {names}; DELETE FROM django_migrations WHERE app = 'django_celery_beat';"


def _beats() -> ScheduleQuerySet:
    return PgPeriodicSchedule.objects.using(_alias()).fired_by(Firer.BEAT)


def _alias() -> str:
    return scheduler_settings().database
