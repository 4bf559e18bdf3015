"""Celery Beat's processes and what they sent, to be read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from pg_queue.api import BoundedPaginator
from scheduler.admin.filters import ScheduleFilter
from scheduler.admin.presentation import NOTHING, badge, instant
from scheduler.admin.readonly import ReadOnlyAdmin
from scheduler.models import BeatProcess, BeatSend
from scheduler.querysets import BEAT_ALIVE


class UnknownFilter(admin.SimpleListFilter):
    """Those that a person has to look into."""

    title = "unknown"
    parameter_name = "unknown"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Only yes."""
        return [("yes", "Nobody knows whether it was published")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Claims of processes that are gone."""
        return queryset if self.value() != "yes" else queryset.unknown()


@admin.register(BeatProcess)
class BeatProcessAdmin(ReadOnlyAdmin):
    """Processes of Celery Beat that observe themselves."""

    list_display = (
        "host", "process_id", "lives", "mode", "started", "heard_of", "sends", "refused_sends", "failed_sends",
        "lost_sends",
    )  # fmt: skip
    list_filter = ("mode",)
    ordering = ("-started_at",)
    list_per_page = 50
    show_full_result_count = False
    paginator = BoundedPaginator
    fields = (
        "host", "process_id", "scheduler", "mode", "lives", "started", "heard_of", "stopped", "sends", "refused_sends",
        "failed_sends", "lost_sends",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With whether each lives, by the database's clock."""
        is_live = Q(stopped_at__isnull=True, heartbeat_at__gt=Now() - BEAT_ALIVE)
        rows = super().get_queryset(request)
        told: QuerySet[Any] = rows.annotate(is_live=ExpressionWrapper(is_live, output_field=BooleanField()))
        return told

    @admin.display(description="lives", boolean=True)
    def lives(self, row: Any) -> bool:
        """Whether it has given a sign of life within 10 s, and has not stopped."""
        return bool(row.is_live)

    @admin.display(description="started", ordering="started_at")
    def started(self, row: BeatProcess) -> str:
        """When."""
        return instant(row.started_at)

    @admin.display(description="last heard of", ordering="heartbeat_at")
    def heard_of(self, row: BeatProcess) -> str:
        """When."""
        return instant(row.heartbeat_at)

    @admin.display(description="stopped")
    def stopped(self, row: BeatProcess) -> str:
        """When, in good order."""
        return instant(row.stopped_at)


@admin.register(BeatSend)
class BeatSendAdmin(ReadOnlyAdmin):
    """What Celery Beat sent."""

    list_display = ("beat_name", "occurrence", "sent", "is_first", "status")
    list_filter = ("state", "is_first", UnknownFilter, ScheduleFilter)
    search_fields = ("beat_name__exact",)
    search_help_text = "Name of Beat's entry, in full"
    ordering = ("-id",)
    list_per_page = 50
    show_full_result_count = False
    paginator = BoundedPaginator
    fields = (
        "beat_name", "schedule_id", "message_id", "occurrence", "sent", "recorded", "is_first", "status", "sent_by",
    )  # fmt: skip

    @admin.display(description="occurrence", ordering="scheduled_for")
    def occurrence(self, row: BeatSend) -> str:
        """What it was sent for."""
        return instant(row.scheduled_for, is_precise=True)

    @admin.display(description="sent (Beat's clock)", ordering="sent_at")
    def sent(self, row: BeatSend) -> str:
        """When; for a claim that was never published, when it was claimed."""
        return instant(row.sent_at, is_precise=True)

    @admin.display(description="recorded")
    def recorded(self, row: BeatSend) -> str:
        """When it was written down."""
        return instant(row.recorded_at, is_precise=True)

    @admin.display(description="state", ordering="state")
    def status(self, row: BeatSend) -> str:
        """Its state as a coloured word."""
        return badge(row.state)

    @admin.display(description="sent by")
    def sent_by(self, row: BeatSend) -> str:
        """The process; it may be forgotten already."""
        process = BeatProcess.objects.filter(pk=row.process_id).first()
        return str(process) if process else NOTHING
