"""The schedules."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.timezone import now

from scheduler.domain import CatchUp, CronDialect, Firer, Hold, Overlap, ScheduleKind, ScheduleState
from scheduler.querysets import ScheduleQuerySet

_INSTANTS = (
    *("next_run_at", "last_run_at", "starts_at", "ends_at", "paused_at", "paused_until", "quarantined_at"),
    *("created_at", "updated_at", "make_up_until", "beat_from"),
)
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
    make_up_until = models.DateTimeField(null=True, blank=True, editable=False)
    """Each missed occurrence up to it is fired, whatever `catch_up` says: PG had to wait for Beat. Null: none."""
    beat_from = models.DateTimeField(null=True, blank=True, editable=False)
    """PG fires what occurs up to it, and Beat what occurs after it; null: its firer fires all."""
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
            models.Index(
                fields=["next_run_at", "pipeline_id"],
                name="scheduler_schedule_shadow",
                condition=Q(enabled=True, firer=Firer.BEAT.value, quarantined_at__isnull=True, hold__isnull=True),
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
                name="scheduler_schedule_beat_from_of_pg",
                condition=Q(beat_from__isnull=True) | Q(firer=Firer.PG.value),
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
        """The same word that `ScheduleQuerySet.in_state` filters by.

        Where Beat fires it, only the shadow advances `next_run_at`: it has ended when its end has passed, too, by this
        process's clock (the filter asks the database's). Nothing is decided by it.
        """
        if self.quarantined_at is not None:
            return ScheduleState.QUARANTINED
        if not self.enabled:
            return ScheduleState.PAUSED
        is_over = self.firer == Firer.BEAT and self.ends_at is not None and self.ends_at <= now()
        return ScheduleState.ENDED if is_over or self.next_run_at is None else ScheduleState.ACTIVE
