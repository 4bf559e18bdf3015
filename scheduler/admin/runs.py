"""The pages of a run."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from pg_queue.api import BoundedPaginator
from scheduler import api
from scheduler.admin.changelist import UncountedChangeList
from scheduler.admin.filters import OrganizationFilter, RecentFilter, ScheduleFilter
from scheduler.admin.presentation import NOTHING, badge, instant, moment, note, outcome, pretty, wall
from scheduler.admin.readonly import ReadOnlyAdmin
from scheduler.models import PgPeriodicSchedule, ScheduleRun
from scheduler.runs import messages_of

MOST_MATCHES = 1000


class RunChangeList(UncountedChangeList):
    """A page of runs, with the queue's state of those that are not finished and the names of their schedules."""

    def get_results(self, request: HttpRequest) -> None:
        """As Django's; two more queries per page, however many rows."""
        super().get_results(request)
        self.result_list = attach(self.result_list)


def attach(runs: Any) -> list[ScheduleRun]:
    """Set `live` and `schedule_name` on each run; the name is empty where the schedule was deleted."""
    rows = list(runs)
    names = dict(
        PgPeriodicSchedule.objects.filter(pk__in={row.schedule_id for row in rows}).values_list("pk", "pipeline_name")
    )
    for row, view in zip(rows, api.runs_with_live_state(rows), strict=True):
        row.live, row.schedule_name = view, names.get(row.schedule_id, "")
    return rows


def latest_runs(schedule_id: uuid.UUID, count: int) -> list[api.RunView]:
    """A schedule's last runs, the latest first."""
    return api.runs_with_live_state(list(ScheduleRun.objects.of_schedule(schedule_id).latest_first()[:count]))


def shown_run(run: api.RunView, url: str | None) -> dict[str, Any]:
    """A row of `admin/scheduler/last_runs.html`; `url` None: no link."""
    return {
        "url": url,
        "origin": run.origin,
        "state": badge(run.state),
        "scheduled_for": moment(run.scheduled_for),
        "instants": [moment(at, run.scheduled_for) for at in (run.fired_at, run.started_at, run.finished_at)],
        "outcome": outcome(run.result, run.error),
    }


@admin.register(ScheduleRun)
class RunAdmin(ReadOnlyAdmin):
    """Runs: what became of each occurrence. Read-only."""

    list_display = ("due_", "what", "state_", "fired_", "started_", "finished_", "outcome_")
    list_filter = (ScheduleFilter, RecentFilter, "state", "origin", OrganizationFilter)
    search_fields = ("schedule",)
    search_help_text = "Name of the schedule, or the id of a run or a schedule"
    ordering = ("-scheduled_for", "id")
    list_per_page = 50
    show_full_result_count = False
    paginator = BoundedPaginator
    fields = (
        "what",
        "state_",
        "due",
        "fired",
        "relayed",
        "started",
        "finished",
        "span",
        "origin",
        "firer",
        "organization",
        "execution",
        "result_",
        "error_",
        "identity",
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The one that knows the live states."""
        return RunChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """A run with its live state."""
        row = super().get_object(request, object_id, from_field)
        return None if row is None else attach([row])[0]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Names the run by its schedule and occurrence."""
        row = kwargs["obj"]
        context["subtitle"] = f"{row.schedule_name or row.schedule_id}, {wall(row.scheduled_for, 'UTC')}"
        return super().render_change_form(request, context, *args, **kwargs)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """By id, or by the name of a schedule that exists."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            found = uuid.UUID(term)
        except ValueError:
            named = PgPeriodicSchedule.objects.filter(pipeline_name__icontains=term).order_by("pk")
            return queryset.filter(schedule_id__in=list(named.values_list("pk", flat=True)[:MOST_MATCHES])), False
        return queryset.filter(id=found) | queryset.filter(schedule_id=found), False

    @admin.display(description="scheduled for")
    def due(self, row: Any) -> str:
        """The occurrence, or the first of a stretch."""
        return instant(row.scheduled_for, is_precise=True)

    @admin.display(description="scheduled for (UTC)", ordering="scheduled_for")
    def due_(self, row: Any) -> str:
        """The occurrence, in the list."""
        return moment(row.scheduled_for)

    @admin.display(description="fired")
    def fired_(self, row: Any) -> str:
        """When its message was enqueued, in the list."""
        return moment(row.live.fired_at, row.scheduled_for)

    @admin.display(description="started")
    def started_(self, row: Any) -> str:
        """When a worker took it (last), in the list."""
        return moment(row.live.started_at, row.scheduled_for)

    @admin.display(description="finished")
    def finished_(self, row: Any) -> str:
        """When it ended, in the list."""
        return moment(row.live.finished_at, row.scheduled_for)

    @admin.display(description="schedule")
    def what(self, row: Any) -> str:
        """Name of the schedule, linked; its id when it was deleted."""
        if not row.schedule_name:
            return note(f"deleted schedule {row.schedule_id}")
        url = reverse(f"{self.admin_site.name}:scheduler_pgperiodicschedule_change", args=[quote(row.schedule_id)])
        return format_html('<a href="{}">{}</a>', url, row.schedule_name)

    @admin.display(description="state")
    def state_(self, row: Any) -> str:
        """Its state at this moment; for a stretch, how many occurrences it stands for."""
        if row.live.span_end is None:
            return badge(row.live.state)
        many = "many" if row.live.occurrences is None else row.live.occurrences
        return format_html("{} × {}", badge(row.live.state), many)

    @admin.display(description="fired")
    def fired(self, row: Any) -> str:
        """When its message was enqueued."""
        return instant(row.live.fired_at, is_precise=True)

    @admin.display(description="relayed")
    def relayed(self, row: Any) -> str:
        """When the system that its queue is routed to had taken it."""
        return instant(row.live.relayed_at, is_precise=True)

    @admin.display(description="started")
    def started(self, row: Any) -> str:
        """When a worker took it (last)."""
        return instant(row.live.started_at, is_precise=True)

    @admin.display(description="finished")
    def finished(self, row: Any) -> str:
        """When it ended."""
        return instant(row.live.finished_at, is_precise=True)

    @admin.display(description="result")
    def outcome_(self, row: Any) -> str:
        """Its result or error, on one line."""
        return outcome(row.live.result, row.live.error)

    @admin.display(description="stretch")
    def span(self, row: Any) -> str:
        """The last occurrence of a stretch, and how many there are."""
        if row.span_end is None:
            return "a single occurrence"
        count = "more than were counted" if row.occurrences is None else f"{row.occurrences} occurrences"
        return format_html("until {} ({})", instant(row.span_end), count)

    @admin.display(description="result")
    def result_(self, row: Any) -> str:
        """Its result in full."""
        return pretty(row.live.result)

    @admin.display(description="error")
    def error_(self, row: Any) -> SafeString:
        """Its error in full."""
        error = row.live.error
        if not isinstance(error, dict):
            return pretty(error)
        text = ": ".join(str(error[key]) for key in ("type", "message") if error.get(key))
        if not error.get("traceback"):
            return format_html('<span class="db-error">{}</span>', text)
        return format_html(
            '<div><b>{}</b><details><summary>Traceback</summary><pre class="db-json">{}</pre></details></div>',
            text,
            error["traceback"],
        )

    @admin.display(description="execution")
    def execution(self, row: Any) -> str:
        """What the queue knows of it, as long as it keeps its message or result."""
        message = messages_of([row.pk]).get(row.pk)
        if message is None:
            return note("The queue keeps nothing of it any more.") if row.fired_at else NOTHING
        return format_html(
            "{} in queue {}, attempt {} of {}{}",
            message.task,
            message.queue,
            message.attempts,
            message.max_attempts,
            f", by {message.worker}" if message.worker else "",
        )

    @admin.display(description="organization")
    def organization(self, row: Any) -> str:
        """Whose it is."""
        return str(row.organization_id)

    @admin.display(description="id")
    def identity(self, row: Any) -> str:
        """Id of the run and of its message."""
        return format_html("<code>{}</code>", row.pk)
