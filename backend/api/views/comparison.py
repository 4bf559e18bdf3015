"""`/api/v1/comparison/`: what Celery Beat sent beside what the tick would have fired."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import viewsets
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from backend.api.documentation import BAD_REQUEST, ORGANIZATION
from backend.api.organizations import OrganizationScope
from backend.api.refusals import message
from backend.api.strictness import identities, instant, refuse_unknown_parameters
from scheduler.api import PgPeriodicSchedule
from scheduler.comparison import compare
from scheduler.comparison.report import as_json

LONGEST = timedelta(days=31)
_PARAMETERS = [
    OpenApiParameter("since", OpenApiTypes.DATETIME, description="By default 24 hours ago."),
    OpenApiParameter("until", OpenApiTypes.DATETIME, description="By default, and at most, 15 seconds ago."),
    OpenApiParameter("schedule", OpenApiTypes.UUID, many=True, description="Repeatable; by default all."),
    ORGANIZATION,
]


class ComparisonViewSet(OrganizationScope, viewsets.GenericViewSet):
    """The comparison of one organization's schedules."""

    queryset = PgPeriodicSchedule.objects.all()
    pagination_class = None
    filterset_class = None
    permission_model = "scheduler.pgperiodicschedule"
    extra_permissions = {"list": ["scheduler.view_schedulerun"]}

    @extend_schema(summary="Compare runs", parameters=_PARAMETERS, responses={200: OpenApiTypes.OBJECT, **BAD_REQUEST})
    def list(self, request: Request) -> Response:
        """Verdicts, causes, lateness, and each schedule's readiness and first divergence."""
        refuse_unknown_parameters(request, {"since", "until", "schedule", "organization"})
        since = instant("since", request.query_params.get("since")) or timezone.now() - timedelta(hours=24)
        until = instant("until", request.query_params.get("until"))
        _refuse_long(since, until)
        return Response(as_json(compare(since=since, until=until, schedules=self._chosen(request))))

    def _chosen(self, request: Request) -> Any:
        rows = self.get_queryset()
        wanted = identities(request, "schedule")
        return rows.filter(pk__in=wanted) if wanted else rows


def _refuse_long(since: datetime, until: datetime | None) -> None:
    if (until or timezone.now()) - since > LONGEST:
        text = message(f"an instant at most {LONGEST.days} days before until", since.isoformat())
        raise ValidationError({"since": [text]})
