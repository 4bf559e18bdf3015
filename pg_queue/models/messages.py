"""Messages, and what becomes of them: their ends, their keys, their groups, and what leaves for elsewhere."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Now

from pg_queue.domain import (
    DEFAULT_PRIORITY,
    MAX_PRIORITY,
    MIN_PRIORITY,
    TERMINAL_STATES,
    BarrierState,
    MessageState,
)

NEXT_SEQUENCE = Func(Value("pg_queue_message_sequence"), function="nextval", output_field=models.BigIntegerField())
NEW_ID = Func(function="pg_queue_uuid7", output_field=models.UUIDField())

READABLE = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))
"""The instants that every timezone can show."""


class Message(models.Model):
    """Work to do: waiting while it has no claim token, running while it has one."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=NEW_ID, editable=False)
    sequence = models.BigIntegerField(db_default=NEXT_SEQUENCE, editable=False)
    """First in, first out among messages that become due at one instant."""
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    """The tenant to which this, like every row of the queue, belongs; a store sees one of them only."""
    queue = models.CharField(max_length=128, db_default="default")
    priority = models.SmallIntegerField(db_default=DEFAULT_PRIORITY)
    run_after = models.DateTimeField(db_default=Now())
    """Not claimed before this instant; moved on by each retry."""
    task = models.CharField(max_length=255)
    args = models.JSONField(default=list)
    kwargs = models.JSONField(default=dict)
    headers = models.JSONField(default=dict)
    organization_id = models.CharField(max_length=64, blank=True, db_default="")
    report_to = models.CharField(max_length=32, null=True, blank=True)
    """Consumer of its outcome; see `QueueStore.take_outcomes`."""
    attempts = models.SmallIntegerField(db_default=0)
    max_attempts = models.SmallIntegerField()
    enqueued_at = models.DateTimeField(db_default=Now())
    claim_token = models.UUIDField(null=True, blank=True)
    claimed_by = models.CharField(max_length=255, null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    last_error = models.JSONField(null=True, blank=True)
    key = models.CharField(max_length=255, null=True, blank=True)
    """Its idempotency key; see `Key`."""
    barrier_id = models.UUIDField(null=True, blank=True)
    """The barrier that waits for it; see `Barrier`."""
    continuations = models.JSONField(null=True, blank=True)
    """What its end enqueues: lists of messages under the keys `success` and `failure`; null: nothing."""
    progress = models.JSONField(null=True, blank=True)
    """What its execution last said of itself: `done`, `total`, `stage`, and when: `at`."""

    class Meta:
        indexes = [
            models.Index(
                fields=["namespace", "queue", "priority", "run_after", "sequence"],
                name="pg_queue_message_ready",
                condition=Q(claim_token__isnull=True),
            ),
            models.Index(
                # Who waits in a slot, and the first of each. Unclaimed by another word: see `turns.sql`.
                fields=["namespace", "queue", "priority", "organization_id", "run_after", "sequence"],
                name="pg_queue_message_turns",
                condition=Q(lease_until__isnull=True),
            ),
            models.Index(
                fields=["lease_until"], name="pg_queue_message_claimed", condition=Q(claim_token__isnull=False)
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="pg_queue_message_priority_range", condition=Q(priority__range=(MIN_PRIORITY, MAX_PRIORITY))
            ),
            models.CheckConstraint(
                # One that waits has an attempt left: claiming it must not run past the column's range.
                name="pg_queue_message_attempts_range",
                condition=Q(attempts__gte=0, max_attempts__gte=1, attempts__lt=F("max_attempts"))
                | Q(attempts__gte=0, attempts=F("max_attempts"), claim_token__isnull=False),
            ),
            models.CheckConstraint(
                # What Python cannot read back would stop every worker that claims it.
                name="pg_queue_message_instants_readable",
                condition=Q(run_after__range=READABLE, enqueued_at__range=READABLE),
            ),
            models.CheckConstraint(
                name="pg_queue_message_claim_whole",
                condition=Q(claim_token__isnull=True, claimed_by__isnull=True, lease_until__isnull=True)
                | Q(claim_token__isnull=False, claimed_by__isnull=False, lease_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.id}"


class Result(models.Model):
    """What became of a message: one row per settled message, kept until `expires_at` (null: for ever)."""

    message_id = models.UUIDField(primary_key=True, editable=False)
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    state = models.CharField(max_length=16, choices=[(s.value, s.value) for s in MessageState])
    task = models.CharField(max_length=255)
    queue = models.CharField(max_length=128)
    priority = models.SmallIntegerField()
    organization_id = models.CharField(max_length=64, blank=True)
    headers = models.JSONField(default=dict)
    report_to = models.CharField(max_length=32, null=True, blank=True)
    """Emptied when the consumer has taken the outcome."""
    value = models.JSONField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    attempts = models.SmallIntegerField()
    max_attempts = models.SmallIntegerField()
    worker = models.CharField(max_length=255, null=True, blank=True)
    run_after = models.DateTimeField()
    enqueued_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    key = models.CharField(max_length=255, null=True, blank=True)
    barrier_id = models.UUIDField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["namespace", "report_to", "finished_at"],
                name="pg_queue_result_unreported",
                condition=Q(report_to__isnull=False),
            ),
            models.Index(fields=["expires_at"], name="pg_queue_result_expiring", condition=Q(expires_at__isnull=False)),
        ]
        constraints = [
            models.CheckConstraint(
                name="pg_queue_result_state_terminal",
                condition=Q(state__in=sorted(s.value for s in TERMINAL_STATES)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.message_id} {self.state}"


class DeadLetter(models.Model):
    """A message whose attempts are used up, with everything that a replay needs, and why and when it died."""

    id = models.UUIDField(primary_key=True, editable=False)
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    queue = models.CharField(max_length=128)
    priority = models.SmallIntegerField()
    task = models.CharField(max_length=255)
    args = models.JSONField(default=list)
    kwargs = models.JSONField(default=dict)
    headers = models.JSONField(default=dict)
    organization_id = models.CharField(max_length=64, blank=True)
    report_to = models.CharField(max_length=32, null=True, blank=True)
    attempts = models.SmallIntegerField()
    max_attempts = models.SmallIntegerField()
    enqueued_at = models.DateTimeField()
    died_at = models.DateTimeField(db_default=Now())
    error = models.JSONField()
    key = models.CharField(max_length=255, null=True, blank=True)
    continuations = models.JSONField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["died_at", "id"], name="pg_queue_deadletter_died")]

    def __str__(self) -> str:
        return f"{self.task} {self.id}"


class Key(models.Model):
    """An idempotency key: it holds while its message lives, and until `expires_at` once that has ended."""

    namespace = models.CharField(max_length=64, blank=True, db_default="")
    key = models.CharField(max_length=255)
    message_id = models.UUIDField(unique=True)
    ttl_seconds = models.FloatField()
    expires_at = models.DateTimeField(null=True, blank=True)
    """Null: the message waits or runs."""

    class Meta:
        indexes = [
            models.Index(fields=["expires_at"], name="pg_queue_key_expiring", condition=Q(expires_at__isnull=False))
        ]
        constraints = [models.UniqueConstraint(fields=["namespace", "key"], name="pg_queue_key_once")]

    def __str__(self) -> str:
        return self.key


class Barrier(models.Model):
    """How many members a barrier still waits for. Rewritten as they end, so what stays the same is in `BarrierPlan`."""

    id = models.UUIDField(primary_key=True, editable=False)
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    state = models.CharField(max_length=16, choices=[(s.value, s.value) for s in BarrierState])
    remaining = models.IntegerField()
    callback_id = models.UUIDField(null=True, blank=True)
    culprit_id = models.UUIDField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["ended_at"], name="pg_queue_barrier_ended", condition=Q(ended_at__isnull=False))
        ]
        constraints = [
            models.CheckConstraint(
                name="pg_queue_barrier_state_whole",
                condition=Q(state=BarrierState.OPEN.value, remaining__gt=0, ended_at__isnull=True)
                | Q(state=BarrierState.DONE.value, remaining=0, ended_at__isnull=False)
                | Q(
                    state=BarrierState.ABORTED.value, remaining__gt=0, ended_at__isnull=False, culprit_id__isnull=False
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.state}"


class BarrierPlan(models.Model):
    """What a barrier waits for, and what follows: written once."""

    barrier = models.OneToOneField(Barrier, on_delete=models.CASCADE, primary_key=True, related_name="plan")
    member_ids = models.JSONField()
    callback = models.JSONField(null=True, blank=True)
    on_abort = models.JSONField(null=True, blank=True)

    def __str__(self) -> str:
        return str(self.barrier_id)


class Event(models.Model):
    """The outbox: what is to leave the database once its transaction has committed. Gone when it was relayed."""

    id = models.UUIDField(primary_key=True, editable=False)
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    topic = models.CharField(max_length=128)
    key = models.CharField(max_length=255)
    payload = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    run_after = models.DateTimeField(db_default=Now())
    """Not leased before this instant: moved on by each lease and each failure."""
    token = models.UUIDField(null=True, blank=True)
    attempts = models.IntegerField(db_default=0)
    error = models.TextField(blank=True, db_default="")

    class Meta:
        indexes = [models.Index(fields=["namespace", "topic", "run_after", "id"], name="pg_queue_event_due")]

    def __str__(self) -> str:
        return f"{self.topic} {self.key}"
