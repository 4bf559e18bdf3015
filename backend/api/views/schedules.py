"""`/api/v1/schedules/`: schedules, and what can be done with one. Everything goes through `scheduler.api`."""

from __future__ import annotations

from rest_framework import viewsets

from backend.api.documentation import documented
from backend.api.filters import ScheduleFilter
from backend.api.organizations import OrganizationScope
from backend.api.serializers.schedules import ScheduleSerializer
from backend.api.views.actions import ScheduleActions
from scheduler import api
from scheduler.api import PgPeriodicSchedule


@documented("schedule")
class ScheduleViewSet(OrganizationScope, ScheduleActions, viewsets.ModelViewSet):
    """Schedules: what is to run, and when."""

    queryset = PgPeriodicSchedule.objects.all()
    serializer_class = ScheduleSerializer
    filterset_class = ScheduleFilter
    keyset = ("pk",)
    lookup_field = "pipeline_id"
    lookup_url_kwarg = "id"
    permission_model = "scheduler.pgperiodicschedule"
    extra_permissions = {
        "runs": ["scheduler.view_schedulerun"],
        "explain": ["scheduler.view_schedulerun"],
    }

    def perform_destroy(self, instance: PgPeriodicSchedule) -> None:
        """Delete the schedule; its runs stay in the ledger."""
        api.delete_schedule(instance.pk)

    def schedule_of(self, row: PgPeriodicSchedule) -> PgPeriodicSchedule:
        """Itself."""
        return row

    def changed(self, row: PgPeriodicSchedule, schedule: PgPeriodicSchedule) -> PgPeriodicSchedule:
        """The schedule as it was written: where Beat fires it, the mirror row may not say so yet."""
        return schedule
