"""The scheduler's tables: the schedules, and the ledger of what became of each occurrence."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from scheduler.domain import (
    FIRED_STATES,
    CatchUp,
    CronDialect,
    Firer,
    Hold,
    Overlap,
    RunOrigin,
    RunState,
    ScheduleKind,
    ScheduleState,
)
from scheduler.querysets import MirrorFailureQuerySet, ScheduleQuerySet, ScheduleRunQuerySet

_INSTANTS = ("next_run_at", "last_run_at", "starts_at", "ends_at", "paused_until")
_READABLE = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
"""What Python's datetime holds, whatever the time zone."""


class PgPeriodicSchedule(models.Model):
    """What is to run, and when. While Beat fires it, this row is the mirror of Beat's `PeriodicTask`.

    Written by `scheduler.schedules` (people) and `scheduler.tick` (the advance) only.
    """

    pipeline_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    beat_name = models.CharField(max_length=200, editable=False)
    """Name of Beat's `PeriodicTask`: the same UUID for schedules made here."""
    organization_id = models.CharField(max_length=64, db_default="default")
    workflow_id = models.CharField(max_length=255, null=True, blank=True)
    pipeline_name = models.CharField(max_length=255)
    kind = models.CharField(max_length=16, choices=[(k.value, k.value) for k in ScheduleKind])
    cron_string = models.CharField("expression", max_length=1000)
    """The expression, as its kind writes it; see `scheduler.recurrence`."""
    timezone = models.CharField(max_length=64, db_default="UTC")
    dialect = models.CharField(
        max_length=8, choices=[(d.value, d.value) for d in CronDialect], db_default=CronDialect.UNIX.value
    )
    interval_seconds = models.FloatField(null=True, blank=True, editable=False)
    """The interval's period, for SQL arithmetic; null for every other kind."""
    task = models.CharField(max_length=255)
    args = models.JSONField(default=list, blank=True)
    kwargs = models.JSONField(default=dict, blank=True)
    queue = models.CharField(max_length=128, db_default="default")
    priority = models.SmallIntegerField(db_default=5)
    max_attempts = models.SmallIntegerField(null=True, blank=True)
    """Executions permitted per run; null: the task's own policy."""
    firer = models.CharField(max_length=4, choices=[(f.value, f.value) for f in Firer], db_default=Firer.PG.value)
    enabled = models.BooleanField(db_default=True)
    pause_note = models.CharField(max_length=500, blank=True, db_default="")
    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    paused_until = models.DateTimeField(null=True, blank=True)
    """When a pause ends by itself; null: when somebody resumes it."""
    starts_at = models.DateTimeField(null=True, blank=True)
    ends_at = models.DateTimeField(null=True, blank=True)
    grace_seconds = models.PositiveIntegerField(null=True, blank=True)
    """How late an occurrence may still be fired; null: `SCHEDULER["GRACE_SECONDS"]`."""
    catch_up = models.CharField(
        max_length=8,
        choices=[(c.value, c.value) for c in CatchUp],
        default=CatchUp.LATEST.value,
        db_default=CatchUp.LATEST.value,
    )
    overlap = models.CharField(
        max_length=8,
        choices=[(o.value, o.value) for o in Overlap],
        default=Overlap.ALLOW.value,
        db_default=Overlap.ALLOW.value,
    )
    jitter_seconds = models.PositiveIntegerField(default=0, db_default=0)
    """Its runs begin up to so much later than their occurrences; see `scheduler.domain.jitter_of`."""
    run_limit = models.PositiveIntegerField(null=True, blank=True)
    """How often it is fired before it ends; 1: a one-off. Null: for ever."""
    run_count = models.BigIntegerField(default=0, db_default=0, editable=False)
    """How often it was fired since it was created or its cadence was changed."""
    pause_after_failures = models.PositiveSmallIntegerField(null=True, blank=True)
    """It is paused when so many of its runs have failed in a row; null: never."""
    failures_in_a_row = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    """Counted only where `pause_after_failures` is set."""
    hold = models.CharField(
        max_length=8, null=True, blank=True, editable=False, choices=[(h.value, h.value) for h in Hold]
    )
    """Why the tick leaves it alone although it may be due; null: it does not."""
    last_run_id = models.UUIDField(null=True, blank=True, editable=False)
    """The run that was fired last, and so its message."""
    last_run_at = models.DateTimeField(null=True, blank=True, editable=False)
    """The occurrence that was fired last."""
    next_run_at = models.DateTimeField(null=True, blank=True, editable=False)
    """The first occurrence not yet decided. Null: none is left. Kept while paused, so that resuming can account
    for what was missed."""
    quarantined_at = models.DateTimeField(null=True, blank=True, editable=False)
    quarantine_error = models.TextField(blank=True, db_default="", editable=False)
    """Why the tick cannot evaluate this row. Editing it lifts the quarantine."""
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        verbose_name = "schedule"
        indexes = [
            models.Index(
                fields=["next_run_at", "pipeline_id"],
                name="scheduler_schedule_due",
                condition=Q(enabled=True, firer=Firer.PG.value, quarantined_at__isnull=True, hold__isnull=True),
            ),
            models.Index(fields=["pipeline_id"], name="scheduler_schedule_held", condition=Q(hold__isnull=False)),
            models.Index(
                fields=["paused_until"],
                name="scheduler_schedule_resuming",
                condition=Q(enabled=False, paused_until__isnull=False),
            ),
            models.Index(
                fields=["pipeline_id"],
                name="scheduler_schedule_failing",
                condition=Q(enabled=True, failures_in_a_row__gte=models.F("pause_after_failures")),
            ),
            models.Index(fields=["organization_id", "pipeline_id"], name="scheduler_schedule_org"),
        ]
        constraints = [
            # Not `unique=True`: Django would add a second index for LIKE, which every fire pays for.
            models.UniqueConstraint(fields=["beat_name"], name="scheduler_schedule_beat_name_key"),
            models.CheckConstraint(
                name="scheduler_schedule_kind_known", condition=Q(kind__in=[k.value for k in ScheduleKind])
            ),
            models.CheckConstraint(
                name="scheduler_schedule_firer_known", condition=Q(firer__in=[f.value for f in Firer])
            ),
            models.CheckConstraint(
                name="scheduler_schedule_dialect_known", condition=Q(dialect__in=[d.value for d in CronDialect])
            ),
            # Beyond them, and at infinity, Python cannot read them: one such row would break every list.
            models.CheckConstraint(
                name="scheduler_schedule_instants_readable",
                condition=Q(*((f"{instant}__range", _READABLE) for instant in _INSTANTS)),
            ),
            models.CheckConstraint(name="scheduler_schedule_priority_range", condition=Q(priority__range=(1, 10))),
            models.CheckConstraint(
                name="scheduler_schedule_policies_known",
                condition=Q(catch_up__in=[c.value for c in CatchUp], overlap__in=[o.value for o in Overlap])
                & (Q(hold__isnull=True) | Q(hold__in=[h.value for h in Hold])),
            ),
            models.CheckConstraint(
                name="scheduler_schedule_limits_positive",
                condition=(Q(run_limit__isnull=True) | Q(run_limit__gte=1))
                & (Q(pause_after_failures__isnull=True) | Q(pause_after_failures__gte=1)),
            ),
            models.CheckConstraint(
                name="scheduler_schedule_interval_whole",
                condition=Q(kind=ScheduleKind.INTERVAL.value, interval_seconds__gt=0)
                | (~Q(kind=ScheduleKind.INTERVAL.value) & Q(interval_seconds__isnull=True)),
            ),
        ]

    def __str__(self) -> str:
        return self.pipeline_name

    @property
    def state(self) -> ScheduleState:
        """The same word that `ScheduleQuerySet.in_state` filters by."""
        if self.quarantined_at is not None:
            return ScheduleState.QUARANTINED
        if not self.enabled:
            return ScheduleState.PAUSED
        return ScheduleState.ENDED if self.next_run_at is None else ScheduleState.ACTIVE


class ScheduleRun(models.Model):
    """The ledger: one row per occurrence, or per stretch of occurrences that were not fired.

    `origin` is part of the key so that shadow and manual runs stand beside an occurrence without claiming it; among
    `schedule` runs there is one row per occurrence. In the database the table is partitioned by month of
    `scheduled_for` and its primary key is `(id, scheduled_for)`; see the migration. A fired run's id is also its
    message's id in the queue. Outlives its schedule.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    schedule = models.ForeignKey(
        PgPeriodicSchedule, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="runs"
    )
    """No foreign key in the database: the ledger outlives a deleted schedule, and the tick does not pay for it."""
    organization_id = models.CharField(max_length=64)
    scheduled_for = models.DateTimeField()
    """The occurrence; for a stretch, its first."""
    span_end = models.DateTimeField(null=True, blank=True)
    """A stretch's last occurrence; null for a single one."""
    occurrences = models.BigIntegerField(null=True, blank=True, db_default=1)
    """How many occurrences the row stands for; null: more than were counted."""
    origin = models.CharField(
        max_length=8, choices=[(o.value, o.value) for o in RunOrigin], db_default=RunOrigin.SCHEDULE.value
    )
    firer = models.CharField(max_length=4, choices=[(f.value, f.value) for f in Firer])
    state = models.CharField(max_length=16, choices=[(s.value, s.value) for s in RunState])
    term = models.BigIntegerField(null=True, blank=True)
    """The leader's term that wrote it; null: written by a person's action."""
    fired_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    result = models.JSONField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    recorded_at = models.DateTimeField(db_default=Now())

    objects = ScheduleRunQuerySet.as_manager()

    class Meta:
        verbose_name = "run"
        indexes = [
            models.Index(fields=["organization_id", "-scheduled_for", "id"], name="scheduler_run_recent"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["schedule", "scheduled_for", "origin"], name="scheduler_run_one_per_occurrence"
            ),
            models.CheckConstraint(
                name="scheduler_run_span_ordered",
                condition=Q(span_end__isnull=True) | Q(span_end__gte=models.F("scheduled_for")),
            ),
            models.CheckConstraint(
                name="scheduler_run_fired_has_instant",
                condition=~Q(state__in=sorted(s.value for s in FIRED_STATES)) | Q(fired_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.scheduled_for:%Y-%m-%dT%H:%M:%SZ} {self.state}"


class MirrorFailure(models.Model):
    """A write of a mirror row that failed while Beat was the firer. The write beside it stood."""

    schedule_id = models.UUIDField()
    beat_name = models.CharField(max_length=200)
    path = models.CharField(max_length=16)
    """create, update, pause, resume or delete."""
    error = models.TextField()
    intended = models.JSONField(null=True, blank=True)
    """The mirror row as it should have been written (Django's serialised form); null: it should be gone."""
    failed_at = models.DateTimeField(db_default=Now())
    repaired_at = models.DateTimeField(null=True, blank=True)

    objects = MirrorFailureQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["-failed_at"], name="scheduler_mirrorfailure_recent"),
            models.Index(
                fields=["schedule_id"], name="scheduler_mirrorfailure_open", condition=Q(repaired_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.path} {self.beat_name}"
