"""A run as REST shows it."""

from __future__ import annotations

from rest_framework import serializers

from scheduler.domain import Firer, RunOrigin, RunState


class RunSerializer(serializers.Serializer):
    """What became of an occurrence, or of a stretch of occurrences that were not fired."""

    id = serializers.UUIDField(help_text="A fired run's id is its message's id too.")
    schedule = serializers.UUIDField(source="schedule_id")
    organization = serializers.CharField(source="organization_id")
    origin = serializers.ChoiceField(choices=[o.value for o in RunOrigin])
    scheduled_for = serializers.DateTimeField(help_text="The occurrence; of a stretch, the first.")
    span_end = serializers.DateTimeField(allow_null=True, help_text="A stretch's last occurrence.")
    occurrences = serializers.IntegerField(allow_null=True, help_text="Null: more than were counted.")
    firer = serializers.ChoiceField(choices=[f.value for f in Firer])
    state = serializers.ChoiceField(choices=[s.value for s in RunState])
    fired_at = serializers.DateTimeField(allow_null=True)
    relayed_at = serializers.DateTimeField(
        allow_null=True, help_text="When another store, or a Celery broker, had taken it."
    )
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    error = serializers.JSONField(allow_null=True, help_text="An object with `type`, `message` and `traceback`.")


class ExplanationSerializer(serializers.Serializer):
    """What became of an occurrence, and why."""

    schedule = serializers.UUIDField(source="schedule_id")
    at = serializers.DateTimeField(help_text="The instant that was asked about.")
    occurrence = serializers.DateTimeField(allow_null=True, help_text="The occurrence meant; null: there is none.")
    state = serializers.CharField(
        help_text="A run's state; without a run: planned, due, held, paused, quarantined, sent, other_firer, "
        "not_expected, forgotten or unknown."
    )
    reason = serializers.CharField()
    run = RunSerializer(allow_null=True)
    sent_at = serializers.ListField(
        source="sent_ats", child=serializers.DateTimeField(), help_text="When Celery Beat sent it, by its own clock."
    )
