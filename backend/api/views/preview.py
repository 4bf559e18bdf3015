"""`/api/v1/preview/`: when an expression would occur, here and under Celery Beat's rules, before anything is stored."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from backend.api.documentation import BAD_REQUEST, COUNT
from backend.api.serializers.schedules import PreviewSerializer
from backend.api.strictness import refuse_unknown_parameters
from backend.api.views.actions import wanted_count
from scheduler import api
from scheduler.domain import CronDialect, ScheduleKind
from scheduler.representation import preview_fields

_DEFAULTS = {"kind": ScheduleKind.CRONTAB.value, "expression": "", "timezone": "UTC", "dialect": CronDialect.UNIX.value}
_PARAMETERS = [
    OpenApiParameter("expression", OpenApiTypes.STR, required=True),
    OpenApiParameter("kind", OpenApiTypes.STR, enum=list(ScheduleKind), description="By default crontab."),
    OpenApiParameter("timezone", OpenApiTypes.STR, description="By default UTC."),
    OpenApiParameter("dialect", OpenApiTypes.STR, enum=list(CronDialect), description="By default unix."),
    COUNT,
]


class PreviewViewSet(viewsets.ViewSet):
    """What lies ahead of an expression."""

    permission_model = "scheduler.pgperiodicschedule"

    @extend_schema(
        summary="Preview an expression",
        operation_id="preview",
        parameters=_PARAMETERS,
        responses={200: PreviewSerializer, **BAD_REQUEST},
    )
    def list(self, request: Request) -> Response:
        """The next occurrences from now on, and those around the next two clock changes."""
        refuse_unknown_parameters(request, {*_DEFAULTS, "count"})
        given = {name: request.query_params.get(name, default) for name, default in _DEFAULTS.items()}
        expression = api.normalise(given["kind"], given["expression"], given["dialect"])
        cadence = api.Cadence(ScheduleKind(given["kind"]), expression, given["timezone"], CronDialect(given["dialect"]))
        return Response(preview_fields(api.preview(cadence, after=timezone.now(), count=wanted_count(request))))
