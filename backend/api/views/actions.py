"""What can be done with a schedule, at the schedule itself and at whatever has a schedule of its own id."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from backend.api.filters import RunFilter
from backend.api.serializers.runs import ExplanationSerializer, RunSerializer
from backend.api.serializers.schedules import PauseSerializer, UpcomingSerializer
from backend.api.strictness import instant, whole
from backend.api.views.runs import RUN_KEYSET
from backend.pipelines.organizations import visible_slugs
from scheduler import api
from scheduler.api import PgPeriodicSchedule, ScheduleRun
from scheduler.forecast.herd import OCCURRENCES as HERD_OCCURRENCES
from scheduler.representation import preview_fields

DEFAULT_COUNT, LARGEST_COUNT = 10, 1000


class ScheduleActions:
    """Mixin of a view set: what can be done with a row's schedule, through `scheduler.api`.

    `pause/`, `resume/`, `run/`, `next/`, `preview/`, `explain/` and `runs/`. `documented` describes them.
    """

    def schedule_of(self, row: Any) -> PgPeriodicSchedule:
        """The schedule of a row. Raises `ScheduleNotFound`."""
        return api.get_schedule(row.pk)

    def changed(self, row: Any, schedule: PgPeriodicSchedule) -> Any:
        """What to show of a row whose schedule is now `schedule`."""
        raise NotImplementedError

    @action(detail=True, methods=["post"])
    def pause(self, request: Request, **_: Any) -> Response:
        """Stop firing until resumed. What is missed meanwhile is recorded as paused when it is resumed."""
        row = self.row()
        body = PauseSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return self._shown(row, api.pause_schedule(self.schedule_of(row).pk, **body.validated_data))

    @action(detail=True, methods=["post"])
    def resume(self, request: Request, **_: Any) -> Response:
        """Fire again, from the next occurrence on."""
        row = self.row()
        return self._shown(row, api.resume_schedule(self.schedule_of(row).pk))

    @action(detail=True, methods=["post"])
    def run(self, request: Request, **_: Any) -> Response:
        """Enqueue a run now, beside the schedule's own occurrences; also while it is paused."""
        created = api.run_schedule(self.schedule_of(self.row()).pk)
        return Response(RunSerializer(api.runs_with_live_state([created])[0]).data, status=201)

    @action(detail=True, pagination_class=None, filterset_class=None)
    def next(self, request: Request, **_: Any) -> Response:
        """The next occurrences."""
        schedule = self.schedule_of(self.row())
        occurrences = api.upcoming(schedule, wanted_count(request))
        return Response(UpcomingSerializer({"timezone": schedule.timezone, "results": occurrences}).data)

    @action(detail=True, pagination_class=None, filterset_class=None)
    def preview(self, request: Request, **_: Any) -> Response:
        """What lies ahead here and under Celery Beat's rules, also around the next two clock changes."""
        schedule, count = self.schedule_of(self.row()), wanted_count(request)
        shown = api.preview_of(schedule, count=max(count, HERD_OCCURRENCES))
        return Response(with_herd(request, shown, count, schedule.jitter_seconds, schedule.pk))

    @action(detail=True, pagination_class=None, filterset_class=None)
    def explain(self, request: Request, **_: Any) -> Response:
        """What became of the latest occurrence at or before an instant, and why."""
        at = instant("at", request.query_params.get("at", ""))
        told = api.explain(self.schedule_of(self.row()).pk, at)
        return Response(ExplanationSerializer(told).data)

    @action(detail=True, filterset_class=RunFilter, keyset=RUN_KEYSET)
    def runs(self, request: Request, **_: Any) -> Response:
        """Its runs, latest occurrence first; they outlive the schedule."""
        rows = self.filter_queryset(ScheduleRun.objects.of_schedule(self.row().pk))  # type: ignore[attr-defined]
        page = self.paginate_queryset(rows)  # type: ignore[attr-defined]
        shown = RunSerializer(api.runs_with_live_state(page), many=True).data
        return self.get_paginated_response(shown)  # type: ignore[attr-defined,no-any-return]

    def row(self) -> Any:
        """The row of the URL, found without the filters: they are for what is listed below it."""
        key = self.kwargs[self.lookup_url_kwarg or self.lookup_field]  # type: ignore[attr-defined]
        return get_object_or_404(self.get_queryset(), pk=key)  # type: ignore[attr-defined]

    def _shown(self, row: Any, schedule: PgPeriodicSchedule) -> Response:
        return Response(self.get_serializer(self.changed(row, schedule)).data)  # type: ignore[attr-defined]


def with_herd(
    request: Request, shown: api.Preview, count: int, jitter_seconds: int, schedule_id: UUID | None = None
) -> dict[str, Any]:
    """A preview, with the herd that it joins among the schedules that the caller may see, itself left out."""
    scope = api.ForecastScope(organizations=visible_slugs(request.user), excluded=schedule_id)
    return preview_fields(shown, count, api.find_herd(shown.occurrences, jitter_seconds=jitter_seconds, scope=scope))


def wanted_count(request: Request) -> int:
    """How many occurrences the query asks for. Raises `ValidationError`."""
    return whole(request, "count", DEFAULT_COUNT, 1, LARGEST_COUNT)
