"""What is known of Celery Beat: mirror writes that failed, what the guard of its rows undid, processes and sends."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from scheduler.domain import BeatMode, CatchKind, SendState
from scheduler.querysets import BeatProcessQuerySet, BeatSendQuerySet, MirrorFailureQuerySet


class MirrorFailure(models.Model):
    """A write of a mirror row that failed while Beat was the firer. The write beside it stood."""

    schedule_id = models.UUIDField()
    beat_name = models.CharField(max_length=200)
    path = models.CharField(max_length=16)
    """create, update, pause, resume, delete, or follow: Beat's row was changed elsewhere."""
    error = models.TextField()
    intended = models.JSONField(null=True, blank=True)
    """The mirror row as it should have been written (Django's serialised form); null: it should be gone, or (`follow`)
    say what Beat's row says."""
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


class BeatCatch(models.Model):
    """What the guard of Beat's rows undid, and who did it. Written by the database's trigger only.

    A comment on this table says that somebody removed the guard; see `scheduler.beat.trigger`.
    """

    id = models.BigAutoField(primary_key=True)
    schedule_id = models.UUIDField()
    """No foreign key: the note outlives the schedule, and Beat's own write waits for nothing."""
    beat_name = models.CharField(max_length=200)
    caught_at = models.DateTimeField(db_default=Now())
    what = models.CharField(max_length=16, choices=[(k.value, k.value) for k in CatchKind])
    role = models.CharField(max_length=64)
    """Of PostgreSQL: who had logged in."""
    application_name = models.CharField(max_length=64, blank=True)
    client_address = models.GenericIPAddressField(null=True, blank=True)
    """Null: it came through a socket of the server's own machine."""
    client_port = models.IntegerField(null=True, blank=True)
    process_id = models.IntegerField()
    """Of the session's server process."""
    query = models.TextField(blank=True)
    """The statement, as it was sent, cut off at 500 characters."""
    attempted = models.JSONField(default=dict)
    """By column of Beat's row, what it keeps and what it was to become."""

    class Meta:
        verbose_name = "tripwire catch"
        verbose_name_plural = "tripwire catches"
        indexes = [
            models.Index(fields=["-caught_at"], name="scheduler_beatcatch_recent"),
            models.Index(fields=["schedule_id", "-caught_at"], name="scheduler_beatcatch_schedule"),
        ]
        constraints = [
            models.CheckConstraint(
                name="scheduler_beatcatch_what_known", condition=Q(what__in=[k.value for k in CatchKind])
            )
        ]

    def __str__(self) -> str:
        return f"{self.what} {self.beat_name}"


class BeatProcess(models.Model):
    """A Celery Beat process that observes itself, or asks before it sends. Written by that process only."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.CharField(max_length=255)
    process_id = models.IntegerField()
    scheduler = models.CharField(max_length=255)
    """Dotted path of its scheduler class."""
    mode = models.CharField(max_length=8, choices=[(m.value, m.value) for m in BeatMode])
    started_at = models.DateTimeField(db_default=Now())
    heartbeat_at = models.DateTimeField(db_default=Now())
    """Every 2 s while it lives, by the database's clock."""
    stopped_at = models.DateTimeField(null=True, blank=True)
    """When it ended in good order; null: it lives, or was killed."""
    sends = models.BigIntegerField(default=0, db_default=0)
    """Published ones that are recorded."""
    refused_sends = models.BigIntegerField(default=0, db_default=0)
    failed_sends = models.BigIntegerField(default=0, db_default=0)
    lost_sends = models.BigIntegerField(default=0, db_default=0)
    """Sends that it could not record, because the database did not answer for long."""

    objects = BeatProcessQuerySet.as_manager()

    class Meta:
        verbose_name = "Beat process"
        verbose_name_plural = "Beat processes"
        indexes = [models.Index(fields=["-heartbeat_at"], name="scheduler_beatprocess_recent")]
        constraints = [
            models.CheckConstraint(
                name="scheduler_beatprocess_mode_known", condition=Q(mode__in=[m.value for m in BeatMode])
            )
        ]

    def __str__(self) -> str:
        return f"{self.host} {self.process_id}"


class BeatSend(models.Model):
    """One send of Celery Beat: what it sent, when by its own clock, and for which occurrence.

    The occurrence's ledger row is made by its first send; a later one for the same occurrence finds it there.
    """

    id = models.BigAutoField(primary_key=True)
    process = models.ForeignKey(
        BeatProcess, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    """No foreign key in the database: a send does not pay for it, nor wait for its process to be registered."""
    beat_name = models.CharField(max_length=200)
    schedule_id = models.UUIDField(null=True, blank=True)
    """The mirror's id; null: Beat sent something that has no mirror."""
    message_id = models.CharField(max_length=255)
    """Celery's id of the task that was sent."""
    scheduled_for = models.DateTimeField(null=True, blank=True)
    """The occurrence that it was sent for; null: it could not be named."""
    sent_at = models.DateTimeField()
    """By Beat's own clock; for one that was claimed and never published, when it was claimed."""
    recorded_at = models.DateTimeField(db_default=Now())
    is_first = models.BooleanField()
    """Whether the occurrence was free: no send and no fire of PG's had it."""
    state = models.CharField(max_length=8, choices=[(s.value, s.value) for s in SendState])

    objects = BeatSendQuerySet.as_manager()

    class Meta:
        verbose_name = "Beat send"
        indexes = [
            models.Index(fields=["schedule_id", "scheduled_for"], name="scheduler_beatsend_occurrence"),
            models.Index(fields=["recorded_at"], name="scheduler_beatsend_recent"),
            models.Index(fields=["beat_name", "recorded_at"], name="scheduler_beatsend_name"),
            models.Index(fields=["id"], name="scheduler_beatsend_unknown", condition=Q(state=SendState.CLAIMED.value)),
        ]
        constraints = [
            models.CheckConstraint(
                name="scheduler_beatsend_state_known", condition=Q(state__in=[s.value for s in SendState])
            )
        ]

    def __str__(self) -> str:
        return f"{self.beat_name} {self.sent_at:%Y-%m-%dT%H:%M:%SZ}"
