"""A pipeline, its steps and its executions as REST shows and takes them."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import Http404
from rest_framework import serializers

from backend.api.organizations import meant_by
from backend.api.refusals import message
from backend.api.serializers.schedules import EXPRESSION_LENGTH
from backend.api.strictness import StrictSerializer
from backend.pipelines import services
from backend.pipelines.domain import ExecutionState, StepState
from backend.pipelines.models import Pipeline, PipelineStep
from scheduler.domain import CronDialect
from scheduler.errors import InvalidInput

MOST_STEPS = 100


class StepSerializer(StrictSerializer):
    """One step. Its place in the list is its position."""

    task = serializers.CharField(max_length=255)
    args = serializers.ListField(required=False)
    kwargs = serializers.DictField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a task that is not registered and a payload that cannot be stored."""
        try:
            services.check_step(attrs["task"], attrs.get("args", []), attrs.get("kwargs", {}))
        except InvalidInput as error:
            raise serializers.ValidationError({error.field: [message(error.expected, error.got)]}) from error
        return attrs


class PipelineSerializer(StrictSerializer):
    """A pipeline. Its id is its schedule's id; `steps` is replaced as a whole."""

    id = serializers.UUIDField(read_only=True)
    organization = serializers.CharField(
        source="organization_id", max_length=64, required=False, help_text="Chosen on creation, then fixed."
    )
    name = serializers.CharField(max_length=255)
    expression = serializers.CharField(max_length=EXPRESSION_LENGTH, help_text="Cron: five fields or a macro.")
    timezone = serializers.CharField(max_length=64, required=False)
    dialect = serializers.ChoiceField(choices=[d.value for d in CronDialect], required=False)
    active = serializers.BooleanField(required=False)
    steps = StepSerializer(many=True, required=False, max_length=MOST_STEPS)
    created_at = serializers.DateTimeField(read_only=True)
    updated_at = serializers.DateTimeField(read_only=True)

    def validate_organization(self, slug: str) -> str:
        """The organization of an existing pipeline is fixed."""
        if self.instance is not None and slug != self.instance.organization_id:
            raise serializers.ValidationError(message(f"{self.instance.organization_id!r}, which is fixed", slug))
        return slug

    def create(self, validated_data: dict[str, Any]) -> Pipeline:
        """Create pipeline, steps and schedule in one transaction. Raises `InvalidInput`."""
        validated_data["organization_id"] = meant_by(self.context["request"])
        return self._write(Pipeline(), validated_data)

    def update(self, instance: Pipeline, validated_data: dict[str, Any]) -> Pipeline:
        """Change pipeline, steps and schedule in one transaction. Raises `InvalidInput`."""
        return self._write(instance, validated_data)

    @transaction.atomic
    def _write(self, pipeline: Pipeline, values: dict[str, Any]) -> Pipeline:
        if not pipeline._state.adding and not services.refresh(pipeline):
            raise Http404
        steps = values.pop("steps", None)
        for name, value in values.items():
            setattr(pipeline, name, value)
        pipeline.save()
        if steps is not None:
            pipeline.steps.all().delete()
            for position, step in enumerate(steps, start=1):
                PipelineStep.objects.create(pipeline=pipeline, position=position, **step)
        return Pipeline.objects.prefetch_related("steps").get(pk=pipeline.pk)


class StepExecutionSerializer(serializers.Serializer):
    """One step of one run."""

    position = serializers.IntegerField()
    task = serializers.CharField()
    args = serializers.ListField()
    kwargs = serializers.DictField()
    state = serializers.ChoiceField(choices=[s.value for s in StepState])
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    error = serializers.CharField(allow_blank=True)


class ExecutionSerializer(serializers.Serializer):
    """One run of a pipeline, with its steps."""

    id = serializers.UUIDField(help_text="The run's id, and the message's.")
    pipeline = serializers.UUIDField(source="pipeline_id", allow_null=True)
    organization = serializers.CharField(source="organization_id")
    attempt = serializers.IntegerField()
    state = serializers.ChoiceField(choices=[s.value for s in ExecutionState])
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    error = serializers.CharField(allow_blank=True)
    steps = StepExecutionSerializer(many=True)
