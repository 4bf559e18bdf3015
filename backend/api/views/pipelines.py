"""`/api/v1/pipelines/`: pipelines, their activation and their executions."""

from __future__ import annotations

from django.db import transaction
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from backend.api.documentation import ORGANIZATION, documented
from backend.api.filters import ExecutionFilter, PipelineFilter
from backend.api.organizations import OrganizationScope
from backend.api.refusals import message
from backend.api.serializers.pipelines import ExecutionSerializer, PipelineSerializer
from backend.api.views.actions import ScheduleActions
from backend.pipelines import services
from backend.pipelines.models import Pipeline, PipelineExecution
from scheduler.api import PgPeriodicSchedule, ScheduleNotFound


@documented("pipeline")
class PipelineViewSet(OrganizationScope, ScheduleActions, viewsets.ModelViewSet):
    """Pipelines: ordered steps on a schedule. The schedule of a pipeline has the pipeline's id."""

    queryset = Pipeline.objects.prefetch_related("steps")
    serializer_class = PipelineSerializer
    filterset_class = PipelineFilter
    keyset = ("-created_at", "id")
    permission_model = "pipelines.pipeline"
    extra_permissions = {
        "executions": ["pipelines.view_pipelineexecution"],
        "runs": ["scheduler.view_schedulerun"],
        "explain": ["scheduler.view_schedulerun"],
    }

    def handle_exception(self, exc: Exception) -> Response:
        """As DRF's; a pipeline whose schedule was deleted on its own is there, so that it is no 404."""
        if isinstance(exc, ScheduleNotFound):
            exc = ValidationError({"non_field_errors": [message(services.A_SCHEDULE, str(self.kwargs["pk"]))]})
        return super().handle_exception(exc)

    def changed(self, row: Pipeline, schedule: PgPeriodicSchedule) -> Pipeline:
        """The pipeline, which has followed its schedule."""
        return self.get_queryset().get(pk=row.pk)

    @extend_schema(summary="Activate pipeline", request=None, responses=PipelineSerializer)
    @action(detail=True, methods=["post"])
    def activate(self, request: Request, pk: str) -> Response:
        """Resume the pipeline's schedule."""
        return self._switch(True)

    @extend_schema(summary="Deactivate pipeline", request=None, responses=PipelineSerializer)
    @action(detail=True, methods=["post"])
    def deactivate(self, request: Request, pk: str) -> Response:
        """Pause the pipeline's schedule."""
        return self._switch(False)

    @extend_schema(
        summary="Executions of a pipeline", parameters=[ORGANIZATION], responses=ExecutionSerializer(many=True)
    )
    @action(detail=True, filterset_class=ExecutionFilter, keyset=("-started_at", "id"))
    def executions(self, request: Request, pk: str) -> Response:
        """The pipeline's executions with their steps, latest first."""
        rows = PipelineExecution.objects.filter(pipeline=self.row()).prefetch_related("steps")
        page = self.paginate_queryset(self.filter_queryset(rows))
        return self.get_paginated_response(ExecutionSerializer(page, many=True).data)

    @transaction.atomic
    def _switch(self, active: bool) -> Response:
        pipeline = self.get_object()
        if not services.refresh(pipeline):
            raise Http404
        pipeline.active = active
        pipeline.save()
        return Response(PipelineSerializer(pipeline).data)
