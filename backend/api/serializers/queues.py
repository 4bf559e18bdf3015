"""Queues and dead letters as REST shows them, and what is asked of them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from backend.api.serializers.queue import FailureSerializer
from backend.api.strictness import StrictSerializer
from pg_queue.models import DeadLetter


class SwitchSerializer(serializers.Serializer):
    """An operator's word on a queue, or on all of them."""

    is_on = serializers.BooleanField()
    changed_at = serializers.DateTimeField()
    changed_by = serializers.CharField()
    reason = serializers.CharField(allow_blank=True)


class QueueSerializer(serializers.Serializer):
    """A queue's figures at this moment, and whether it is claimed from."""

    name = serializers.CharField()
    is_on = serializers.BooleanField(help_text="False where its own switch, or that of all queues, is off.")
    switch = SwitchSerializer(allow_null=True, help_text="Null: it was never turned.")
    waiting = serializers.IntegerField()
    delayed = serializers.IntegerField()
    running = serializers.IntegerField()
    dead = serializers.IntegerField()
    oldest_due_seconds = serializers.FloatField()


class QueuePageSerializer(serializers.Serializer):
    """Every queue on one page."""

    all_queues = SwitchSerializer(allow_null=True, help_text="The switch of all queues; null: it was never turned.")
    results = QueueSerializer(many=True)


class ReasonSerializer(StrictSerializer):
    """Why, for the record."""

    reason = serializers.CharField(required=False, default="", allow_blank=True, max_length=1000)


class CountSerializer(serializers.Serializer):
    """How many messages it has dealt with."""

    count = serializers.IntegerField()


class DeadLetterSerializer(serializers.Serializer):
    """A message that failed for good, with everything that a replay needs."""

    id = serializers.UUIDField()
    queue = serializers.CharField()
    priority = serializers.IntegerField()
    task = serializers.CharField()
    args = serializers.ListField()
    kwargs = serializers.DictField()
    organization = serializers.CharField(source="organization_id", allow_blank=True)
    attempts = serializers.IntegerField()
    max_attempts = serializers.IntegerField()
    enqueued_at = serializers.DateTimeField()
    died_at = serializers.DateTimeField()
    error = FailureSerializer()

    def to_representation(self, instance: DeadLetter) -> dict[str, Any]:
        """As DRF's, without a traceback for strangers: it shows the insides of the program."""
        shown: dict[str, Any] = super().to_representation(instance)
        user = self.context["request"].user
        return shown if user.is_staff else {**shown, "error": {**shown["error"], "traceback": ""}}
