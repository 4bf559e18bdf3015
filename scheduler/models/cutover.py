"""Who was to fire a schedule from when on, who wanted it, and what came of it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from scheduler.domain import Firer, HandoverMethod, HandoverState
from scheduler.querysets import HandoverQuerySet


class Handover(models.Model):
    """One change of a schedule's firer, from Celery Beat to PG or back; `scheduler.cutover` tells how it goes.

    A schedule has one that waits at most. Outlives it.
    """

    schedule_id = models.UUIDField()
    beat_name = models.CharField(max_length=200)
    organization_id = models.CharField(max_length=64)
    to_firer = models.CharField(max_length=4, choices=[(f.value, f.value) for f in Firer])
    method = models.CharField(max_length=8, choices=[(m.value, m.value) for m in HandoverMethod])
    state = models.CharField(
        max_length=9,
        choices=[(s.value, s.value) for s in HandoverState],
        default=HandoverState.WAITING.value,
        db_default=HandoverState.WAITING.value,
    )
    is_forced = models.BooleanField(default=False, db_default=False)
    """Whether it was done without the evidence that it asks for."""
    actor = models.CharField(max_length=255, blank=True)
    """As `scheduler.actor` names whoever acts; empty: nobody said."""
    reason = models.CharField(max_length=500, blank=True)
    """Why, as whoever wanted it said."""
    evidence = models.JSONField(null=True, blank=True)
    """To PG: what the comparison said of the schedule then."""
    requested_at = models.DateTimeField(db_default=Now())
    """From then on PG fires what Beat has not sent; until `beat_from`, where it goes back."""
    canary = models.CharField(max_length=64, blank=True)
    """Name of the entry that Beat has to send first; empty: none was planted."""
    process_id = models.UUIDField(null=True, blank=True)
    """The Beat process that was alive then."""
    beat_run_count = models.IntegerField(default=0)
    """How often Beat had run it then, as its row says."""
    beat_from = models.DateTimeField(null=True, blank=True)
    """To Beat: what occurs after it is Beat's."""
    ended_at = models.DateTimeField(null=True, blank=True)
    """When it was done or cancelled."""
    outcome = models.JSONField(default=dict)
    """What it found: sends of Beat meanwhile, occurrences of which nobody knows, the first that is the new firer's."""

    objects = HandoverQuerySet.as_manager()

    class Meta:
        verbose_name = "hand-over"
        indexes = [
            models.Index(fields=["-requested_at"], name="scheduler_handover_recent"),
            models.Index(fields=["schedule_id", "-requested_at"], name="scheduler_handover_schedule"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["schedule_id"], name="scheduler_handover_one_at_a_time", condition=Q(state="waiting")
            ),
            models.CheckConstraint(
                name="scheduler_handover_words_known",
                condition=Q(
                    to_firer__in=[f.value for f in Firer],
                    method__in=[m.value for m in HandoverMethod],
                    state__in=[s.value for s in HandoverState],
                ),
            ),
            models.CheckConstraint(
                name="scheduler_handover_ends",
                condition=Q(state="waiting", ended_at=None) | ~Q(state="waiting") & Q(ended_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.beat_name} to {self.to_firer}: {self.state}"
