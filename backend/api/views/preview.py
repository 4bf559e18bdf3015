"""`/api/v1/preview/` and `/api/v1/forecast/`: what lies ahead of an expression, and of all schedules together."""

from __future__ import annotations

import uuid

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import viewsets
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from backend.api.documentation import BAD_REQUEST, COUNT, ORGANIZATION
from backend.api.organizations import named_in_query
from backend.api.refusals import message
from backend.api.serializers.schedules import ForecastSerializer, PreviewSerializer
from backend.api.strictness import refuse_unknown_parameters, whole
from backend.api.views.actions import wanted_count, with_herd
from backend.pipelines.organizations import visible_slugs
from scheduler import api
from scheduler.domain import CronDialect, ScheduleKind
from scheduler.forecast import LONGEST_HOURS
from scheduler.forecast.herd import OCCURRENCES as HERD_OCCURRENCES
from scheduler.representation import forecast_fields

_DEFAULTS = {"kind": ScheduleKind.CRONTAB.value, "expression": "", "timezone": "UTC", "dialect": CronDialect.UNIX.value}
_LONGEST_JITTER = 2**31 - 1
_MOST_BUSIEST = 1000
_EXPRESSION = [
    OpenApiParameter("expression", OpenApiTypes.STR, required=True),
    OpenApiParameter("kind", OpenApiTypes.STR, enum=list(ScheduleKind), description="By default crontab."),
    OpenApiParameter("timezone", OpenApiTypes.STR, description="By default UTC."),
    OpenApiParameter("dialect", OpenApiTypes.STR, enum=list(CronDialect), description="By default unix."),
    OpenApiParameter("jitter_seconds", OpenApiTypes.INT, description="With a minute or more it joins no herd."),
    OpenApiParameter("schedule", OpenApiTypes.UUID, description="The schedule that is to be changed to it."),
    COUNT,
]
_HOURS = [
    OpenApiParameter("hours", OpenApiTypes.INT, description=f"1 to {LONGEST_HOURS}, by default 24."),
    OpenApiParameter("top", OpenApiTypes.INT, description=f"Busiest minutes, 0 to {_MOST_BUSIEST}, by default 10."),
    ORGANIZATION,
]


class PreviewViewSet(viewsets.ViewSet):
    """What lies ahead of an expression."""

    permission_model = "scheduler.pgperiodicschedule"

    @extend_schema(
        summary="Preview an expression",
        operation_id="preview",
        parameters=_EXPRESSION,
        responses={200: PreviewSerializer, **BAD_REQUEST},
    )
    def list(self, request: Request) -> Response:
        """The next occurrences from now on, those around the next two clock changes, and the herd that it joins."""
        refuse_unknown_parameters(request, {*_DEFAULTS, "count", "jitter_seconds", "schedule"})
        given = {name: request.query_params.get(name, default) for name, default in _DEFAULTS.items()}
        expression = api.normalise(given["kind"], given["expression"], given["dialect"])
        kind, dialect = ScheduleKind(given["kind"]), CronDialect(given["dialect"])
        count, jitter = wanted_count(request), whole(request, "jitter_seconds", 0, 0, _LONGEST_JITTER)
        cadence = api.Cadence(kind, expression, given["timezone"], dialect)
        shown = api.preview(cadence, after=timezone.now(), count=max(count, HERD_OCCURRENCES))
        return Response(with_herd(request, shown, count, jitter, _named_schedule(request)))


class ForecastViewSet(viewsets.ViewSet):
    """What lies ahead of all schedules together."""

    permission_model = "scheduler.pgperiodicschedule"

    @extend_schema(
        summary="Forecast fires by minute",
        operation_id="forecast",
        parameters=_HOURS,
        responses={200: ForecastSerializer, **BAD_REQUEST},
    )
    def list(self, request: Request) -> Response:
        """Of every schedule that the caller may see, or of one organization."""
        refuse_unknown_parameters(request, {"hours", "top", "organization"})
        organization = named_in_query(request)
        seen = visible_slugs(request.user) if organization is None else [organization]
        hours, top = whole(request, "hours", 24, 1, LONGEST_HOURS), whole(request, "top", 10, 0, _MOST_BUSIEST)
        made = api.forecast(hours=hours, top=top, scope=api.ForecastScope(organizations=seen))
        return Response(forecast_fields(made))


def _named_schedule(request: Request) -> uuid.UUID | None:
    text = request.query_params.get("schedule")
    try:
        return None if text is None else uuid.UUID(text)
    except ValueError:
        raise ValidationError({"schedule": [message("a UUID", text)]}) from None
