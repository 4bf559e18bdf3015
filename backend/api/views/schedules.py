"""`/api/v1/schedules/`: schedules, and what can be done with one. Everything goes through `scheduler.api`."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from backend.api.documentation import BAD_REQUEST, ORGANIZATION, documented
from backend.api.filters import RunFilter, ScheduleFilter
from backend.api.organizations import OrganizationScope
from backend.api.refusals import message
from backend.api.serializers.runs import RunSerializer
from backend.api.serializers.schedules import PauseSerializer, ScheduleSerializer, UpcomingSerializer
from backend.api.views.runs import RUN_KEYSET
from scheduler import api
from scheduler.api import PgPeriodicSchedule, ScheduleRun

DEFAULT_COUNT, LARGEST_COUNT = 10, 1000
COUNT = OpenApiParameter("count", OpenApiTypes.INT, description=f"1 to {LARGEST_COUNT}, by default {DEFAULT_COUNT}.")


@documented("schedule")
class ScheduleViewSet(OrganizationScope, viewsets.ModelViewSet):
    """Schedules: what is to run, and when."""

    queryset = PgPeriodicSchedule.objects.all()
    serializer_class = ScheduleSerializer
    filterset_class = ScheduleFilter
    keyset = ("pk",)
    lookup_field = "pipeline_id"
    lookup_url_kwarg = "id"
    permission_model = "scheduler.pgperiodicschedule"
    extra_permissions = {"runs": ["scheduler.view_schedulerun"]}

    def perform_destroy(self, instance: PgPeriodicSchedule) -> None:
        """Delete the schedule; its runs stay in the ledger."""
        api.delete_schedule(instance.pk)

    @extend_schema(
        summary="Pause schedule", request=PauseSerializer, responses={200: ScheduleSerializer, **BAD_REQUEST}
    )
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, id: str) -> Response:
        """Stop firing until resumed. What is missed meanwhile is recorded as paused when it is resumed."""
        schedule = self.get_object()
        body = PauseSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return self._shown(api.pause_schedule(schedule.pk, **body.validated_data) or schedule)

    @extend_schema(summary="Resume schedule", request=None, responses=ScheduleSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, id: str) -> Response:
        """Fire again, from the next occurrence on."""
        schedule = self.get_object()
        return self._shown(api.resume_schedule(schedule.pk) or schedule)

    @extend_schema(summary="Run schedule now", request=None, responses={201: RunSerializer})
    @action(detail=True, methods=["post"])
    def run(self, request: Request, id: str) -> Response:
        """Enqueue a run now, beside the schedule's own occurrences; also while it is paused."""
        created = api.run_schedule(self.get_object().pk)
        return Response(RunSerializer(api.runs_with_live_state([created])[0]).data, status=201)

    @extend_schema(
        summary="Next occurrences",
        parameters=[COUNT],
        responses={200: UpcomingSerializer, **BAD_REQUEST},
        filters=False,
    )
    @action(detail=True, pagination_class=None, filterset_class=None)
    def next(self, request: Request, id: str) -> Response:
        """The next occurrences."""
        schedule = self.get_object()
        occurrences = api.upcoming(schedule, _count(request))
        return Response(UpcomingSerializer({"timezone": schedule.timezone, "results": occurrences}).data)

    @extend_schema(summary="Runs of a schedule", parameters=[ORGANIZATION], responses=RunSerializer(many=True))
    @action(detail=True, filterset_class=RunFilter, keyset=RUN_KEYSET)
    def runs(self, request: Request, id: str) -> Response:
        """The schedule's runs, latest occurrence first."""
        schedule = self.schedule_of_runs()
        rows = self.filter_queryset(ScheduleRun.objects.filter(schedule_id=schedule.pk))
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(RunSerializer(api.runs_with_live_state(page), many=True).data)

    def schedule_of_runs(self) -> PgPeriodicSchedule:
        """The schedule of the URL, found without the filters, which are for its runs."""
        return get_object_or_404(self.get_queryset(), pk=self.kwargs["id"])

    def _shown(self, schedule: Any) -> Response:
        return Response(ScheduleSerializer(schedule).data)


def _count(request: Request) -> int:
    text = request.query_params.get("count", str(DEFAULT_COUNT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LARGEST_COUNT:
        raise ValidationError({"count": [message(f"a whole number from 1 to {LARGEST_COUNT}", text)]})
    return int(text)
