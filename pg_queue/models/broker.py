"""What a broker keeps besides messages: declared queues, their bindings, and what is only for who listens now.

Written by the Kombu transport, `pg_queue.celery.transport`. Tasks are rows of `Message`, whatever way they came.
"""

from __future__ import annotations

from django.db import models


class BrokerQueue(models.Model):
    """A queue that a Celery app has declared."""

    namespace = models.CharField(max_length=64, blank=True, db_default="")
    name = models.CharField(max_length=255)
    is_transient = models.BooleanField()
    """Its messages are `Broadcast` rows: replies, events and commands for one consumer, who takes them as they come."""
    is_exclusive = models.BooleanField()
    """One session's, which holds an advisory lock for it: without that lock its owner is gone."""
    ttl_seconds = models.FloatField(null=True, blank=True)
    """It goes, with all that is in it, when no consumer has touched it for so long; null: it stays."""
    expires_at = models.DateTimeField(null=True, blank=True)
    """When that will be."""

    class Meta:
        indexes = [
            models.Index(
                fields=["expires_at"],
                name="pg_queue_brokerqueue_expiring",
                condition=models.Q(expires_at__isnull=False),
            )
        ]
        constraints = [models.UniqueConstraint(fields=["namespace", "name"], name="pg_queue_brokerqueue_once")]

    def __str__(self) -> str:
        return self.name


class Binding(models.Model):
    """What goes from an exchange to a queue. The anonymous exchange needs none: a routing key is the queue's name."""

    namespace = models.CharField(max_length=64, blank=True, db_default="")
    exchange = models.CharField(max_length=255)
    kind = models.CharField(max_length=16)
    """`direct`, `topic` or `fanout`."""
    routing_key = models.CharField(max_length=255, blank=True)
    pattern = models.TextField(blank=True)
    """Of a topic: a regular expression that the routing keys match."""
    queue = models.CharField(max_length=255)

    class Meta:
        indexes = [models.Index(fields=["namespace", "queue"], name="pg_queue_binding_queue")]
        constraints = [
            models.UniqueConstraint(
                fields=["namespace", "exchange", "routing_key", "queue"], name="pg_queue_binding_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.exchange} {self.routing_key} {self.queue}"


class Broadcast(models.Model):
    """One message in one transient queue. Deleted when it is taken; a crash may lose it (the table is unlogged)."""

    sequence = models.BigAutoField(primary_key=True)
    namespace = models.CharField(max_length=64, blank=True, db_default="")
    queue = models.CharField(max_length=255)
    payload = models.TextField()
    """As kombu has encoded it."""

    class Meta:
        indexes = [models.Index(fields=["namespace", "queue", "sequence"], name="pg_queue_broadcast_order")]

    def __str__(self) -> str:
        return f"{self.queue} {self.sequence}"
