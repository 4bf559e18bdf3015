"""How processes and people agree: who leads and who works, what is switched off, locked or limited, what was done."""

from __future__ import annotations

from django.db import models
from django.db.models import Value
from django.db.models.functions import Now

from pg_queue.domain import Action


class Worker(models.Model):
    """A worker process that has said that it is alive. `stopped_at` set: it ended in good order."""

    id = models.CharField(primary_key=True, max_length=255)
    """host:pid:start, unique for ever."""
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    host = models.CharField(max_length=255)
    process_id = models.IntegerField()
    queues = models.JSONField(default=list)
    concurrency = models.SmallIntegerField()
    started_at = models.DateTimeField(db_default=Now())
    heartbeat_at = models.DateTimeField(db_default=Now())
    stopped_at = models.DateTimeField(null=True, blank=True)
    running = models.IntegerField(db_default=0)
    finished = models.BigIntegerField(db_default=0)
    failed = models.BigIntegerField(db_default=0)
    statistics = models.JSONField(default=dict, db_default=Value({}, models.JSONField()))
    """What it said of itself with its last heartbeat."""

    class Meta:
        indexes = [models.Index(fields=["heartbeat_at"], name="pg_queue_worker_heartbeat")]

    def __str__(self) -> str:
        return self.id


class Switch(models.Model):
    """An operator's switch: one queue, or with an empty name all of the namespace. Without a row it is on."""

    namespace = models.CharField(max_length=64, blank=True, db_default="")
    queue = models.CharField(max_length=128, blank=True)
    is_on = models.BooleanField()
    changed_at = models.DateTimeField(db_default=Now())
    changed_by = models.CharField(max_length=255)
    reason = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["namespace", "queue"], name="pg_queue_switch_once")]

    def __str__(self) -> str:
        return f"{self.queue or 'all'} {'on' if self.is_on else 'off'}"


class Operation(models.Model):
    """What an operator did, written down before it is done: see `pg_queue.operator`. Never changed by hand."""

    begun_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)
    """Null: it goes on, or was cut off after `count`."""
    actor = models.CharField(max_length=255)
    action = models.CharField(max_length=16, choices=[(a.value, a.value) for a in Action])
    store = models.CharField(max_length=64)
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    queue = models.CharField(max_length=128, blank=True)
    """Empty: not one queue's; of a switch, the whole namespace's."""
    message_ids = models.JSONField(null=True, blank=True)
    """Those that were named; null where none were."""
    count = models.BigIntegerField(db_default=0)
    """Messages that it has dealt with so far."""
    reason = models.TextField(blank=True)

    class Meta:
        indexes = [models.Index(fields=["-begun_at"], name="pg_queue_operation_latest")]

    def __str__(self) -> str:
        return f"{self.begun_at:%Y-%m-%d %H:%M} {self.actor}: {self.action} {self.queue}"


class Lock(models.Model):
    """A named lock: held by `owner` until it expires, whatever becomes of the process that took it."""

    namespace = models.CharField(max_length=64, blank=True, db_default="")
    name = models.CharField(max_length=255)
    owner = models.UUIDField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["namespace", "name"], name="pg_queue_lock_once")]

    def __str__(self) -> str:
        return self.name


class Limit(models.Model):
    """A bucket of tokens, by the name of what it limits. An instant says how full it is; see `RateLimit`."""

    namespace = models.CharField(max_length=64, blank=True, db_default="")
    name = models.CharField(max_length=255)
    full_at = models.DateTimeField()
    asked_at = models.DateTimeField()
    """By the clock of the database, when it was last asked."""
    granted = models.IntegerField(default=0)
    """What was given then."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["namespace", "name"], name="pg_queue_limit_once")]

    def __str__(self) -> str:
        return self.name


class Leader(models.Model):
    """Who leads, by name of the election: one row each, rewritten at every term. See `pg_queue.leader`."""

    name = models.CharField(primary_key=True, max_length=64)
    term = models.BigIntegerField(default=0)
    pid = models.IntegerField(null=True, blank=True)
    """Process id of the PostgreSQL backend that holds the lock."""
    backend_start = models.DateTimeField(null=True, blank=True)
    """Start of that backend: with `pid` it names one session for ever."""
    host = models.CharField(max_length=255, blank=True)
    process_id = models.IntegerField(null=True, blank=True)
    """Process id of the leader itself, on `host`."""
    since = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    previous_heartbeat_at = models.DateTimeField(null=True, blank=True)
    """The last stamp of the term before: from then until `since` nobody led."""
    resigned_at = models.DateTimeField(null=True, blank=True)
    """Set by a clean stop, emptied by the next term."""

    def __str__(self) -> str:
        return f"{self.name} term {self.term}"
