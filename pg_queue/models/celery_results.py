"""The tables of Celery's result backend: states and results of Celery tasks, saved groups, chords that count down.

Written by `pg_queue.celery.backend` on PostgreSQL, which may run where there is no Django project; nothing else writes.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class CeleryResult(models.Model):
    """The last state of a Celery task, with what Celery keeps beside it, as its result serializer wrote it."""

    pk = models.CompositePrimaryKey("namespace", "task_id")
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    task_id = models.CharField(max_length=255)
    status = models.CharField(max_length=50)
    """Celery's word, or the task's own."""
    content_type = models.CharField(max_length=100)
    content_encoding = models.CharField(max_length=50)
    meta = models.BinaryField()
    """The result, or the error, with traceback, children and what `result_extended` adds."""
    stored_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    """Not found after this instant; null: kept for ever."""

    class Meta:
        indexes = [
            models.Index(
                fields=["expires_at"], name="pg_queue_celeryresult_expiring", condition=Q(expires_at__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return f"{self.task_id} {self.status}"


class CeleryGroup(models.Model):
    """A group that was saved by `GroupResult.save`: the ids of its members, nested as they were."""

    pk = models.CompositePrimaryKey("namespace", "group_id")
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    group_id = models.CharField(max_length=255)
    content_type = models.CharField(max_length=100)
    content_encoding = models.CharField(max_length=50)
    meta = models.BinaryField()
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["expires_at"], name="pg_queue_celerygroup_expiring", condition=Q(expires_at__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return self.group_id


class CeleryChord(models.Model):
    """How far a chord is. Rewritten as its members end: one lock, so that each of them is counted once."""

    pk = models.CompositePrimaryKey("namespace", "group_id")
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    group_id = models.CharField(max_length=255)
    state = models.CharField(max_length=8, db_default="open")
    """`open`: it counts; `claimed`: all are in, and who holds the claim sends the callback; `done`: it was sent."""
    size = models.IntegerField(null=True, blank=True)
    """Members in all; null: not all of them are sent yet."""
    extra = models.IntegerField(db_default=0)
    """Members that were added while it ran (`Task.add_to_chord`)."""
    counted = models.IntegerField(db_default=0)
    """Members that have ended, each once however often it was executed."""
    content_type = models.CharField(max_length=100, blank=True, db_default="")
    content_encoding = models.CharField(max_length=50, blank=True, db_default="")
    header = models.BinaryField(null=True, blank=True)
    """The header's ids, where groups are inside it; null: the parts in their order are the result."""
    callback = models.BinaryField(null=True, blank=True)
    """What is to be sent, known once all members are in."""
    claim_token = models.UUIDField(null=True, blank=True)
    claim_until = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["expires_at"], name="pg_queue_celerychord_expiring", condition=Q(expires_at__isnull=False)
            ),
            models.Index(fields=["claim_until"], name="pg_queue_celerychord_claimed", condition=Q(state="claimed")),
        ]
        constraints = [
            models.CheckConstraint(
                name="pg_queue_celerychord_claim_whole",
                condition=Q(
                    state="claimed",
                    claim_token__isnull=False,
                    claim_until__isnull=False,
                    callback__isnull=False,
                    size__isnull=False,
                )
                | Q(state__in=["open", "done"], claim_token__isnull=True, claim_until__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return f"{self.group_id} {self.state}"


class CeleryChordPart(models.Model):
    """How one member of a chord ended. Gone when the callback was sent."""

    pk = models.CompositePrimaryKey("namespace", "group_id", "task_id", "position")
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    group_id = models.CharField(max_length=255)
    task_id = models.CharField(max_length=255)
    position = models.IntegerField(db_default=-1)
    """Its place in the header; -1: none."""
    status = models.CharField(max_length=50)
    content_type = models.CharField(max_length=100)
    content_encoding = models.CharField(max_length=50)
    result = models.BinaryField()
    stored_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.group_id} {self.task_id} {self.status}"
