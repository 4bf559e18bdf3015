"""Changes of who fires a schedule, to be read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest

from pg_queue.api import BoundedPaginator
from scheduler.admin.changelist import UncountedChangeList
from scheduler.admin.filters import ScheduleFilter
from scheduler.admin.presentation import NOTHING, badge, instant, pretty
from scheduler.admin.readonly import ReadOnlyAdmin
from scheduler.domain import Firer
from scheduler.models import Handover, PgPeriodicSchedule


@admin.register(Handover)
class HandoverAdmin(ReadOnlyAdmin):
    """Who was to fire which schedule from when on, who wanted it, and what came of it."""

    list_display = ("name", "to", "status", "method", "forced", "actor", "reason", "requested", "ended")
    list_filter = ("state", "to_firer", "method", "is_forced", ScheduleFilter)
    search_fields = ("=beat_name", "=schedule_id")
    search_help_text = "Name of Beat's task, or the schedule's id"
    ordering = ("-requested_at", "-id")
    list_per_page = 50
    show_full_result_count = False
    paginator = BoundedPaginator
    fields = (
        "name", "schedule_id", "to", "status", "method", "forced", "actor", "reason", "requested", "beat_since",
        "ended", "evidence_", "outcome_",
    )  # fmt: skip

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The one that offers to show all only where something is filtered out."""
        return UncountedChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With the schedules' names."""
        schedules = PgPeriodicSchedule.objects.filter(pk=OuterRef("schedule_id")).values("pipeline_name")
        named: QuerySet[Any] = super().get_queryset(request).annotate(schedule_name=Subquery(schedules))
        return named

    @admin.display(description="schedule")
    def name(self, row: Any) -> str:
        """The schedule's name; where it is gone, that of Beat's task."""
        return str(row.schedule_name or row.beat_name)

    @admin.display(description="to", ordering="to_firer")
    def to(self, row: Handover) -> str:
        """Whom it goes to."""
        return "PG" if row.to_firer == Firer.PG else "Celery Beat"

    @admin.display(description="state", ordering="state")
    def status(self, row: Handover) -> str:
        """Its state as a coloured word."""
        return badge(row.state)

    @admin.display(description="forced")
    def forced(self, row: Handover) -> str:
        """Whether it was done without the evidence."""
        return "without the evidence" if row.is_forced else NOTHING

    @admin.display(description="requested", ordering="requested_at")
    def requested(self, row: Handover) -> str:
        """When."""
        return instant(row.requested_at)

    @admin.display(description="Beat's from")
    def beat_since(self, row: Handover) -> str:
        """To Beat: what occurs after it is Beat's."""
        return instant(row.beat_from)

    @admin.display(description="ended", ordering="ended_at")
    def ended(self, row: Handover) -> str:
        """When it was done or cancelled."""
        return instant(row.ended_at)

    @admin.display(description="evidence")
    def evidence_(self, row: Handover) -> str:
        """What the comparison said then."""
        return pretty(row.evidence)

    @admin.display(description="outcome")
    def outcome_(self, row: Handover) -> str:
        """What it found."""
        return pretty(row.outcome)
