"""Failed writes of mirror rows, to be read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest

from pg_queue.api import BoundedPaginator
from scheduler.admin.changelist import UncountedChangeList
from scheduler.admin.presentation import instant
from scheduler.admin.readonly import ReadOnlyAdmin
from scheduler.models import MirrorFailure


class OpenFilter(admin.SimpleListFilter):
    """By whether the mirror row has been written since."""

    title = "repaired"
    parameter_name = "repaired"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Yes and no."""
        return [("no", "Not yet"), ("yes", "Yes")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Failures that are repaired, or not."""
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
