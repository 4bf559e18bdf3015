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
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    error = serializers.JSONField(allow_null=True, help_text="An object with `type`, `message` and `traceback`.")
