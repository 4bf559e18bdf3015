"""Failed writes of mirror rows, differences from Beat's rows, and what the guard of those undid, to be read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest

from pg_queue.api import BoundedPaginator
from scheduler.admin.changelist import UncountedChangeList
from scheduler.admin.presentation import NOTHING, instant, pretty
from scheduler.admin.readonly import ReadOnlyAdmin
from scheduler.domain import CatchKind
from scheduler.models import BeatCatch, MirrorDrift, MirrorFailure


class OpenFilter(admin.SimpleListFilter):
    """By whether the row has been written since."""

    title = "repaired"
    parameter_name = "repaired"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Yes and no."""
        return [("no", "Not yet"), ("yes", "Yes")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Those that are repaired, or not."""
        return queryset if self.value() is None else queryset.filter(repaired_at__isnull=self.value() == "no")


@admin.register(MirrorFailure)
class MirrorFailureAdmin(ReadOnlyAdmin):
    """Failed writes of mirror rows."""

    list_display = ("beat_name", "path", "first_line", "failed", "repaired")
    list_filter = (OpenFilter, "path")
    search_fields = ("=beat_name", "=schedule_id")
    search_help_text = "Name of Beat's task, or the schedule's id"
    ordering = ("-failed_at", "-id")
    list_per_page = 50
    show_full_result_count = False
    paginator = BoundedPaginator
    fields = ("beat_name", "schedule_id", "path", "error", "failed", "repaired")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The one that offers to show all only where something is filtered out."""
        return UncountedChangeList

    @admin.display(description="error")
    def first_line(self, row: MirrorFailure) -> str:
        """The beginning of its error."""
        return (row.error.splitlines() or [""])[0][:120]

    @admin.display(description="failed", ordering="failed_at")
    def failed(self, row: MirrorFailure) -> str:
        """When."""
        return instant(row.failed_at)

    @admin.display(description="repaired")
    def repaired(self, row: MirrorFailure) -> str:
        """When the mirror row was written after all."""
        return instant(row.repaired_at)


@admin.register(MirrorDrift)
class MirrorDriftAdmin(ReadOnlyAdmin):
    """Differences between schedules and Beat's rows, as the reconciliation found them."""

    list_display = ("beat_name", "what", "columns", "found", "repaired", "first_line")
    list_filter = (OpenFilter, "what")
    search_fields = ("=beat_name", "=schedule_id")
    search_help_text = "Name of Beat's task, or the schedule's id"
    ordering = ("-found_at", "-id")
    list_per_page = 50
    show_full_result_count = False
    paginator = BoundedPaginator
    fields = ("beat_name", "schedule_id", "organization_id", "what", "said", "found", "repaired", "error")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The one that offers to show all only where something is filtered out."""
        return UncountedChangeList

    @admin.display(description="columns")
    def columns(self, row: MirrorDrift) -> str:
        """What differs, by name."""
        return ", ".join(row.details) or NOTHING

    @admin.display(description="columns (said, should say)")
    def said(self, row: MirrorDrift) -> str:
        """By column, what the row said that is put right, and what it should say."""
        return pretty(row.details)

    @admin.display(description="found", ordering="found_at")
    def found(self, row: MirrorDrift) -> str:
        """When."""
        return instant(row.found_at)

    @admin.display(description="repaired")
    def repaired(self, row: MirrorDrift) -> str:
        """When it was put right, or was found to be gone."""
        return instant(row.repaired_at)

    @admin.display(description="error")
    def first_line(self, row: MirrorDrift) -> str:
        """The beginning of why it could not be repaired."""
        return (row.error.splitlines() or [""])[0][:120]


_CAUGHT = {
    CatchKind.ENABLED: "enable it",
    CatchKind.RENAMED: "rename it",
    CatchKind.WRITE_BACK: "write back a stale copy that was enabled",
}


@admin.register(BeatCatch)
class BeatCatchAdmin(ReadOnlyAdmin):
    """Who tried to give Celery Beat a schedule that PG fires. It was undone."""

    list_display = ("beat_name", "tried_to", "who", "from_where", "caught")
    list_filter = ("what",)
    search_fields = ("=beat_name", "=schedule_id")
    search_help_text = "Name of Beat's task, or the schedule's id"
    ordering = ("-caught_at", "-id")
    list_per_page = 50
    show_full_result_count = False
    paginator = BoundedPaginator
    fields = ("beat_name", "schedule_id", "tried_to", "caught", "who", "from_where", "undone", "query")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The one that offers to show all only where something is filtered out."""
        return UncountedChangeList

    @admin.display(description="tried to")
    def tried_to(self, row: BeatCatch) -> str:
        """What was undone."""
        return _CAUGHT[CatchKind(row.what)]

    @admin.display(description="who")
    def who(self, row: BeatCatch) -> str:
        """Role of the database, and what the program called itself."""
        return f"{row.role} ({row.application_name})" if row.application_name else row.role

    @admin.display(description="from")
    def from_where(self, row: BeatCatch) -> str:
        """Address and port of the client, and the session's server process."""
        address = "local socket" if row.client_address is None else f"{row.client_address} port {row.client_port}"
        return f"{address}, process {row.process_id}"

    @admin.display(description="caught", ordering="caught_at")
    def caught(self, row: BeatCatch) -> str:
        """When."""
        return instant(row.caught_at)

    @admin.display(description="undone (kept, attempted)")
    def undone(self, row: BeatCatch) -> str:
        """By column, what it keeps and what it was to become."""
        return pretty(row.attempted)
