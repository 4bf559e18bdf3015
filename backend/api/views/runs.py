"""`/api/v1/runs/`: the ledger, read-only."""

from __future__ import annotations

from typing import Any

from rest_framework import mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from backend.api.documentation import documented
from backend.api.filters import RunFilter
from backend.api.organizations import OrganizationScope
from backend.api.serializers.runs import RunSerializer
from scheduler import api
from scheduler.api import ScheduleRun

RUN_KEYSET = ("-scheduled_for", "id")


@documented("run")
class RunViewSet(OrganizationScope, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    """Runs, latest occurrence first, with what the queue knows of them at this moment."""

    queryset = ScheduleRun.objects.all()
    serializer_class = RunSerializer
    filterset_class = RunFilter
    keyset = RUN_KEYSET
    permission_model = "scheduler.schedulerun"

    def paginate_queryset(self, queryset: Any) -> Any:
        """A page of runs with their live state: one look into the queue per page."""
        return api.runs_with_live_state(super().paginate_queryset(queryset))

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One run."""
        return Response(self.get_serializer(api.runs_with_live_state([self.get_object()])[0]).data)
