"""Tasks and messages as REST shows them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from backend.pipelines.execution import stage_of
from pg_queue.api import Message, MessageState


class TaskSerializer(serializers.Serializer):
    """A task that may be scheduled."""

    name = serializers.CharField()
    signature = serializers.CharField()
    doc = serializers.CharField(allow_blank=True)
    source = serializers.ChoiceField(choices=["downbeat", "celery"])
    max_attempts = serializers.IntegerField(allow_null=True, help_text="Null: the project's setting.")
    time_limit_seconds = serializers.FloatField(allow_null=True)


@extend_schema_serializer(many=False)
class TaskPageSerializer(serializers.Serializer):
    """Every task on one page."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = TaskSerializer(many=True)


class FailureSerializer(serializers.Serializer):
    """Why an execution failed."""

    type = serializers.CharField()
    message = serializers.CharField(allow_blank=True)
    traceback = serializers.CharField(allow_blank=True)


class ProgressSerializer(serializers.Serializer):
    """How far an execution is."""

    done = serializers.FloatField(help_text="0 to `total`.")
    total = serializers.FloatField()
    fraction = serializers.FloatField(help_text="0 to 1.")
    stage = serializers.CharField(allow_blank=True)
    at = serializers.DateTimeField(allow_null=True, help_text="When it was noted, by the store's clock.")


class MessageSerializer(serializers.Serializer):
    """A message in whatever state it is. Its error's traceback is shown to staff only."""

    id = serializers.UUIDField()
    task = serializers.CharField()
    args = serializers.ListField()
    kwargs = serializers.DictField()
    queue = serializers.CharField()
    priority = serializers.IntegerField()
    state = serializers.ChoiceField(choices=[s.value for s in MessageState])
    stage = serializers.SerializerMethodField(
        help_text="How far it is, in words: of a pipeline's run the step that runs; null where nobody says."
    )
    progress = ProgressSerializer(
        allow_null=True, help_text="What the execution that runs last said of itself; null where it says nothing."
    )
    attempts = serializers.IntegerField()
    max_attempts = serializers.IntegerField()
    organization = serializers.CharField(source="organization_id", allow_blank=True)
    run_after = serializers.DateTimeField()
    enqueued_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    worker = serializers.CharField(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    error = FailureSerializer(allow_null=True)

    def get_stage(self, message: Message) -> str | None:
        """Where the task says how far it is, that."""
        said = message.progress.stage if message.progress else ""
        return said or stage_of(message.id)

    def to_representation(self, instance: Message) -> dict[str, Any]:
        """As DRF's, without a traceback for strangers: it shows the insides of the program."""
        shown: dict[str, Any] = super().to_representation(instance)
        if shown["error"] and not self.context.get("shows_traceback"):
            shown["error"]["traceback"] = ""
        return shown
