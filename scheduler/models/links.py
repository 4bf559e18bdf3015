"""How schedules are tied to rows of Celery Beat, and the differences that were found between the two."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from scheduler.domain import BeatSource, Drift
from scheduler.querysets import MirrorDriftQuerySet


class BeatLink(models.Model):
    """What ties a schedule to its row in Celery Beat, and how the two were last found to agree.

    Made by the import, and by the first reconciliation of a schedule that was made here. Outlives a mirror that is
    lost, and for a while a row that was deleted in Beat: one that is made anew under its name gets the same schedule.
    """

    schedule_id = models.UUIDField(primary_key=True)
    beat_name = models.CharField(max_length=200)
    beat_id = models.BigIntegerField(null=True, blank=True)
    """The key of Beat's row, by which it is known when it was renamed; null: Beat has none."""
    source = models.CharField(max_length=16, choices=[(s.value, s.value) for s in BeatSource])
    organization_id = models.CharField(max_length=64)
    linked_at = models.DateTimeField(db_default=Now())
    """When it was imported; of a schedule made here, when it was first looked at."""
    checked_at = models.DateTimeField(db_default=Now())
    fingerprint = models.CharField(max_length=32, null=True, blank=True)
    """Of both rows as they were last found to agree; null: they were not yet."""
    extras = models.JSONField(default=dict)
    """What Beat's row holds and a schedule here cannot, by dcb's column."""
    certificate = models.JSONField(null=True, blank=True)
    """Of an imported one: `Certificate.as_json`."""

    class Meta:
        verbose_name = "link to Beat"
        verbose_name_plural = "links to Beat"
        indexes = [
            models.Index(fields=["beat_name"], name="scheduler_beatlink_name"),
            models.Index(fields=["beat_id"], name="scheduler_beatlink_row"),
        ]
        constraints = [
            models.CheckConstraint(
                name="scheduler_beatlink_source_known", condition=Q(source__in=[s.value for s in BeatSource])
            )
        ]

    def __str__(self) -> str:
        return self.beat_name


class MirrorDrift(models.Model):
    """A difference between a schedule's row here and its row in Celery Beat, found by the reconciliation."""

    schedule_id = models.UUIDField()
    beat_name = models.CharField(max_length=200)
    organization_id = models.CharField(max_length=64, blank=True)
    """Empty: it is not known."""
    what = models.CharField(max_length=16, choices=[(d.value, d.value) for d in Drift])
    details = models.JSONField(default=dict)
    """By column: what the row said that is put right, and what it should say."""
    found_at = models.DateTimeField(db_default=Now())
    repaired_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True, default="", db_default="")
    """Why it could not be repaired."""

    objects = MirrorDriftQuerySet.as_manager()

    class Meta:
        verbose_name = "mirror drift"
        verbose_name_plural = "mirror drift"
        indexes = [models.Index(fields=["-found_at"], name="scheduler_mirrordrift_recent")]
        constraints = [
            models.UniqueConstraint(
                fields=["schedule_id", "what"],
                name="scheduler_mirrordrift_open",
                condition=Q(repaired_at__isnull=True),
            ),
            models.CheckConstraint(
                name="scheduler_mirrordrift_what_known", condition=Q(what__in=[d.value for d in Drift])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.what} {self.beat_name}"
