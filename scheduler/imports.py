"""The import: Beat's rows get a mirror each, while Beat goes on firing them.

Nothing of Beat's is changed, but for entries of `beat_schedule` that have no row yet: those are written first, as Beat
would at its start. Each row is taken over in a transaction of its own (a savepoint within the caller's): one that
cannot be is reported, and stops none. A row that has a mirror is left as it is, so a second import changes nothing.

Left out are the rows of schedules made here, whose names are UUIDs (a lost mirror of theirs is the reconciliation's),
and canaries of a hand-over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections, transaction

from scheduler import beat, changes, clock, grid, validation
from scheduler.beat import entries, extras, links, mirror, reading, rows
from scheduler.beat.certificate import DEFAULT_COUNT, Certificate, certify
from scheduler.beat.evaluation import BeatSchedule
from scheduler.beat.extras import Remark
from scheduler.beat.names import is_canary, is_made_here, schedule_id_for
from scheduler.domain import BeatSource, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.models import BeatLink, PgPeriodicSchedule
from scheduler.models.ledger import keep
from scheduler.recurrence import Cadence
from scheduler.settings import scheduler_settings

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

logger = logging.getLogger(__name__)

_DISABLED = "disabled in Celery Beat"


class ImportStatus(StrEnum):
    """What the import made of a row."""

    IMPORTED = "imported"
    UNCHANGED = "unchanged"
    """It had a mirror already."""
    REFUSED = "refused"
    """It could not be imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One row of Beat's, or entry of `beat_schedule`, and what became of it."""

    status: ImportStatus
    beat_name: str
    source: BeatSource
    row: PgPeriodicSchedule | None = None
    """The mirror; None: refused."""
    certificate: Certificate | None = None
    """None: refused, or the mirror was not made by an import."""
    reason: str = ""
    """Why it was refused."""
    remarks: list[Remark] = field(default_factory=list)


def import_beat(
    *, organization_id: str = "default", occurrences: int = DEFAULT_COUNT, is_dry_run: bool = False
) -> Iterator[Imported]:
    """Import Beat's rows and the entries of `beat_schedule` one by one, by name; each is committed when it is yielded.

    They become schedules of one organization. `occurrences` is how many of each are compared with Celery's own
    evaluator. A dry run makes each, reports it, and takes it back.

    Raises:
        BeatUnavailable: django-celery-beat is not installed.
        InvalidInput: field `organization_id` or `count`.
    """
    beat.require()
    organization_id = validation.clean({"organization_id": organization_id})["organization_id"]
    count = validation.occurrence_count(occurrences)
    return _Import(organization_id, count, is_dry_run).run()


class _Import:
    def __init__(self, organization_id: str, count: int, is_dry_run: bool) -> None:
        self._organization_id, self._count, self._is_dry_run = organization_id, count, is_dry_run
        self._entries = entries.conf_entries()
        self._certificates: dict[Any, Certificate] = {}

    def run(self) -> Iterator[Imported]:
        known = _mirrors()
        in_beat = set(rows.names())
        for name in sorted({*in_beat, *self._entries}):
            if is_made_here(name) or is_canary(name):
                continue
            if name in known:
                yield self._note_known(name, known[name])
            else:
                yield self._try(name, None if name in in_beat else self._entries[name])

    def _note_known(self, name: str, row: PgPeriodicSchedule) -> Imported:
        link = links.of_schedule(row.pipeline_id)
        made = link.certificate if link else None
        return Imported(
            status=ImportStatus.UNCHANGED,
            beat_name=name,
            source=self._source(name),
            row=row,
            certificate=Certificate.from_json(made) if made else None,
        )

    def _try(self, name: str, entry: Mapping[str, Any] | None) -> Imported:
        """`entry` is what is to be written first; None: the row is there."""
        try:
            with mirror.bounded(), transaction.atomic(using=_alias()):
                imported = self._import(name, entry)
                if self._is_dry_run:
                    transaction.set_rollback(True, using=_alias())
        except Exception as error:  # one row stops no other: whatever it is, it is reported
            if not connections[_alias()].is_usable():
                raise
            if not isinstance(error, InvalidInput):  # its text says it all, and the caller has that
                logger.warning("import.refused name=%r error=%s", name, error, exc_info=True)
            return Imported(
                status=ImportStatus.REFUSED, beat_name=name, source=self._source(name), reason=_describe(error)
            )
        return imported

    def _import(self, name: str, entry: Mapping[str, Any] | None) -> Imported:
        if entry is not None:
            entries.write_entry(name, entry)
        task = rows.lock(name)
        if task is None:
            raise LookupError("its row was deleted while the import ran")
        if (made := PgPeriodicSchedule.objects.using(_alias()).filter(beat_name=name).first()) is not None:
            return self._note_known(name, made)  # by another import, just now
        now = clock.now(_alias())
        row = self._build(task, now)
        certificate = self._certify(row, task, now)
        remarks = extras.remarks_on(row, task)
        if entry is not None and (dropped := entries.dropped_options(entry)):
            text = f"django-celery-beat drops the options {', '.join(dropped)} of an entry: so does Celery Beat with it"
            remarks.append(Remark(about="options", text=text))
        self._store(row, task, certificate)
        return Imported(
            status=ImportStatus.IMPORTED,
            beat_name=name,
            source=self._source(name),
            row=row,
            certificate=certificate,
            remarks=remarks,
        )

    def _build(self, task: PeriodicTask, now: datetime) -> PgPeriodicSchedule:
        """Raises `InvalidInput` for what no schedule here can hold."""
        reading.check(task)
        row = reading.rebuild(task)
        row.pipeline_id, row.organization_id = _free_id(task), self._organization_id
        validation.check(row)
        row.created_at = row.updated_at = now
        row.run_count = 1 if row.run_limit == 1 and task.total_run_count else 0
        row.next_run_at = grid.first_run_after_send(row, task.last_run_at, now)
        if not row.enabled:
            row.paused_at, row.pause_note = now, _DISABLED
        return row

    def _certify(self, row: PgPeriodicSchedule, task: PeriodicTask, now: datetime) -> Certificate:
        """Equal schedules are compared once: it takes Celery some milliseconds."""
        times, cadence = reading.beat_schedule(task), grid.cadence_of(row)
        after = task.last_run_at if row.kind == ScheduleKind.INTERVAL else None
        key: tuple[BeatSchedule, Cadence, datetime | None] = (times, cadence, after)
        if key not in self._certificates:
            self._certificates[key] = certify(times, cadence, made_at=now, after=after, count=self._count)
        return self._certificates[key]

    def _store(self, row: PgPeriodicSchedule, task: PeriodicTask, certificate: Certificate) -> None:
        row.save(using=_alias(), force_insert=True)
        keep([changes.note_event("import", row, row.created_at)], using=_alias())
        kept = {
            "beat_name": task.name,
            "beat_id": task.pk,
            "source": self._source(task.name).value,
            "organization_id": row.organization_id,
            "linked_at": row.created_at,
            "certificate": certificate.as_json(),
        }
        BeatLink.objects.using(_alias()).update_or_create(schedule_id=row.pipeline_id, defaults=kept)
        links.agree([links.Agreed(row.pipeline_id, extras.extras_of(task))])
        mirror.mark_repaired(row.pipeline_id)
        changes.wake_leader(row.pipeline_id)

    def _source(self, name: str) -> BeatSource:
        return BeatSource.APP_CONF if name in self._entries else BeatSource.PERIODIC_TASK


def _mirrors() -> dict[str, PgPeriodicSchedule]:
    """The schedules that have a row in Beat, by its name."""
    kept = ("beat_name", "kind", "cron_string", "timezone", "dialect", "enabled", "firer", "organization_id")
    return {row.beat_name: row for row in PgPeriodicSchedule.objects.using(_alias()).only(*kept).iterator()}


def _free_id(task: PeriodicTask) -> UUID:
    """Always the same for one name, so that an import finds what an earlier one made."""
    schedule_id = schedule_id_for(task.name)
    taken = PgPeriodicSchedule.objects.using(_alias()).filter(pk=schedule_id).exists()
    return schedule_id_for(task.name, again=task.pk) if taken else schedule_id


def _describe(error: Exception) -> str:
    if isinstance(error, InvalidInput):
        return str(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _alias() -> str:
    return scheduler_settings().database
