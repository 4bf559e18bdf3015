"""The ledger: what became of each occurrence, and who changed a schedule."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from scheduler.domain import FIRED_STATES, Firer, RunOrigin, RunState
from scheduler.models.schedules import PgPeriodicSchedule
from scheduler.querysets import ScheduleRunQuerySet


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
    relayed_at = models.DateTimeField(null=True, blank=True)
    """When another store, or a Celery broker, had taken it to which its queue is routed."""
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
            models.CheckConstraint(
                name="scheduler_run_relayed_has_instant",
                condition=~Q(state=RunState.RELAYED.value) | Q(relayed_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.scheduled_for:%Y-%m-%dT%H:%M:%SZ} {self.state}"


class ScheduleChange(models.Model):
    """Who changed a schedule, when and what. Outlives it. Written by the choke points only."""

    schedule_id = models.UUIDField()
    changed_at = models.DateTimeField(db_default=Now())
    action = models.CharField(max_length=16)
    """create, import, update, pause, resume or delete; what was changed in Beat's own row is an update."""
    actor = models.CharField(max_length=255, blank=True)
    """As `scheduler.actor` names whoever acts; empty: nobody said."""
    fields = models.JSONField(default=dict)
    """By public name, before and after; of a new schedule and of a deleted one nothing."""

    class Meta:
        verbose_name = "change"
        indexes = [
            models.Index(fields=["schedule_id", "-changed_at"], name="scheduler_change_schedule"),
            models.Index(fields=["changed_at"], name="scheduler_change_recent"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.schedule_id}"


def keep(rows: Iterable[models.Model], *, using: str) -> None:
    """Store rows of these tables, but for those whose occurrence has one already. Joins the caller's transaction."""
    for row in rows:
        type(row)._base_manager.using(using).bulk_create([row], ignore_conflicts=True)
