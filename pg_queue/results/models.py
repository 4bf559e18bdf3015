"""The table of results. Plain columns and JSON as text, so that every database that Django knows can hold it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from pg_queue.domain import TERMINAL_STATES


class StoredResult(models.Model):
    """How a message ended: one row per message, kept until `expires_at` (null: for ever)."""

    message_id = models.UUIDField(primary_key=True, editable=False)
    namespace = models.CharField(max_length=64, blank=True, default="")
    """The tenant whose message it is."""
    state = models.CharField(max_length=16)
    value = models.TextField(null=True, blank=True)
    """What the task returned, as JSON of ASCII characters only: no character set and no JSON type may change it."""
    error = models.TextField(null=True, blank=True)
    """The failure, likewise."""
    attempts = models.IntegerField()
    started_at = models.DateTimeField()
    """When the execution was claimed, by the queue's clock: a later one's outcome takes an earlier one's place."""
    finished_at = models.DateTimeField()
    """By this database's clock."""
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "pg_queue_results_result"
        verbose_name = "result"
        indexes = [
            models.Index(fields=["finished_at"], name="pg_queue_results_finished"),
            models.Index(fields=["expires_at"], name="pg_queue_results_expiring"),
        ]
        constraints = [
            models.CheckConstraint(
                name="pg_queue_results_state_terminal",
                condition=Q(state__in=sorted(state.value for state in TERMINAL_STATES)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.message_id} {self.state}"
