"""The pages of a schedule."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import DataError, IntegrityError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.text import Truncator

from pg_queue.api import BoundedPaginator, OfferedLookups
from scheduler import api
from scheduler.admin import preview
from scheduler.admin.actions import SHOWN, reason_of, status_of
from scheduler.admin.changelist import UncountedChangeList
from scheduler.admin.comparison import ComparisonPage
from scheduler.admin.cutover import CutoverPage
from scheduler.admin.filters import QueueFilter, StateFilter
from scheduler.admin.forms import ScheduleForm, readable
from scheduler.admin.presentation import badge, instant, moment, note, shown_change
from scheduler.admin.runs import latest_runs, shown_run
from scheduler.admin.timeline import TimelinePage
from scheduler.domain import CatchUp, Firer, Overlap, ScheduleKind
from scheduler.errors import ScheduleNotFound, SchedulerError
from scheduler.models import PgPeriodicSchedule
from scheduler.settings import scheduler_settings

ORPHANED = (
    "Celery Beat fires it, and its periodic task there is gone: nothing fires it any more. Delete the schedule here, "
    "and create it anew if it is still wanted."
)


@admin.register(PgPeriodicSchedule)
class ScheduleAdmin(ComparisonPage, TimelinePage, CutoverPage, OfferedLookups, admin.ModelAdmin):  # type: ignore[type-arg]
    """Schedules: create, edit, pause, resume, run now, delete; all through the choke points."""

    form = ScheduleForm
    list_display = (
        "name",
        "state_",
        "task",
        "when",
        "last_run_at_",
        "next_run_at_",
        "firer",
    )
    list_filter = (StateFilter, "kind", "firer", QueueFilter)
    search_fields = ("pipeline_name", "task", "=pipeline_id")
    search_help_text = "Name, task or id"
    ordering = ("pipeline_name", "pipeline_id")
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    actions = (
        "pause_selected",
        "resume_selected",
        "run_selected",
        "promote_selected",
        "roll_back_selected",
        "delete_selected",
    )
    readonly_fields = ("status", "last_run", "next_run", "created", "updated")
    _what = ("What", {"fields": ["pipeline_name", "organization_id", "task", "args", "kwargs"]})
    _when = ("When", {"fields": [("kind", "cron_string"), ("timezone", "dialect"), ("starts_at", "ends_at")]})
    # One field a line: Django opens a collapsed part that has an error, but looks for it only there.
    _how = (
        "How",
        {
            "fields": [
                "queue",
                "priority",
                "catch_up",
                "grace_seconds",
                "overlap",
                "jitter_seconds",
                "run_limit",
                "pause_after_failures",
                "max_attempts",
                "workflow_id",
                "firer",
            ],
            "classes": ["collapse"],
        },
    )
    _now = ("Now", {"fields": ["status", ("last_run", "next_run"), ("created", "updated")]})

    class Media:
        css = {"all": ["scheduler/admin.css"]}
        js = ["scheduler/preview.js"]

    # What is shown

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The one that offers to show all only where something is filtered out."""
        return UncountedChangeList

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """A new schedule may start paused; an existing one shows its state instead."""
        if obj is not None:
            return [self._now, self._what, self._when, self._how]
        what = (self._what[0], {"fields": [*self._what[1]["fields"], "enabled"]})
        return [what, self._when, self._how]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Organization and firer are chosen on creation."""
        fixed = ("organization_id", "firer") if obj is not None else ()
        return (*super().get_readonly_fields(request, obj), *fixed)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """What a new schedule is unless someone says otherwise."""
        return {
            "organization_id": "default",
            "kind": ScheduleKind.CRONTAB.value,
            "timezone": "UTC",
            "dialect": "unix",
            "args": [],
            "kwargs": {},
            "enabled": True,
            "queue": "default",
            "priority": 5,
            "catch_up": CatchUp.LATEST.value,
            "overlap": Overlap.ALLOW.value,
            "jitter_seconds": 0,
            "firer": scheduler_settings().default_firer,
            **readable(super().get_changeform_initial_data(request)),
        }

    @admin.display(description="name", ordering="pipeline_name")
    def name(self, row: PgPeriodicSchedule) -> str:
        """Its name."""
        return row.pipeline_name

    @admin.display(description="state")
    def state_(self, row: PgPeriodicSchedule) -> str:
        """Its state, with the reason, cut off where it is long, where something holds it back."""
        return format_html("{} {}", badge(row.state), note(Truncator(reason_of(row)).chars(120)))

    @admin.display(description="schedule")
    def when(self, row: PgPeriodicSchedule) -> str:
        """Expression, and the time zone that it follows."""
        zone = "" if row.kind == ScheduleKind.INTERVAL else row.timezone
        return format_html('<code>{}</code> <span class="db-zone">{}</span>', row.cron_string, zone)

    @admin.display(description="last run (UTC)", ordering="last_run_at")
    def last_run_at_(self, row: PgPeriodicSchedule) -> str:
        """The occurrence fired last, in the list."""
        return moment(row.last_run_at)

    @admin.display(description="next run (UTC)", ordering="next_run_at")
    def next_run_at_(self, row: PgPeriodicSchedule) -> str:
        """The next occurrence, in the list; a dash while nothing will be fired."""
        return moment(api.next_run_at(row) if row.state == "active" else None)

    @admin.display(description="last run")
    def last_run(self, row: PgPeriodicSchedule) -> str:
        """The occurrence fired last."""
        return instant(row.last_run_at)

    @admin.display(description="next run")
    def next_run(self, row: PgPeriodicSchedule) -> str:
        """The next occurrence; a dash while nothing will be fired."""
        return instant(api.next_run_at(row) if row.state == "active" else None)

    @admin.display(description="state")
    def status(self, row: PgPeriodicSchedule) -> str:
        """Its state, its reason, and since when."""
        return status_of(row)

    @admin.display(description="created")
    def created(self, row: PgPeriodicSchedule) -> str:
        """When it was created."""
        return instant(row.created_at)

    @admin.display(description="last changed")
    def updated(self, row: PgPeriodicSchedule) -> str:
        """When it was changed last."""
        return instant(row.updated_at)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Adds the coming and the last runs, and what may be done."""
        row = kwargs.get("obj")
        context["preview_url"] = reverse(f"{self.admin_site.name}:scheduler_preview")
        is_typed = request.method == "POST" and request.POST.get("cron_string", "").strip()
        typed = request.POST.dict() | {"schedule": "" if row is None else str(row.pk)}
        organizations = self.organizations_of(request)
        context |= preview.of_form(typed, SHOWN, organizations) if is_typed else preview.of_row(row, SHOWN)
        if row is not None:
            context |= self.actions_on(row, row)
            context |= self._runs_of(row) if request.user.has_perm("scheduler.view_schedulerun") else {}
            context["changes"] = [shown_change(change) for change in api.last_changes(row.pk, SHOWN)]
        return super().render_change_form(request, context, *args, **kwargs)

    def _runs_of(self, row: PgPeriodicSchedule) -> dict[str, Any]:
        runs = [(run, self._url("schedulerun_change", run.id)) for run in latest_runs(row.pk, SHOWN)]
        every = f"{self._url('schedulerun_changelist')}?schedule={row.pk}"
        return {
            "may_see_runs": True,
            "last_runs": [shown_run(run, url) for run, url in runs],
            "all_runs": [(every, "All runs of this schedule")],
        }

    def _url(self, name: str, *args: Any) -> str:
        return reverse(f"{self.admin_site.name}:scheduler_{name}", args=args)

    # What is written

    def refusal_of(self, error: SchedulerError | IntegrityError | DataError, row: Any) -> SchedulerError:
        """As the mixin's; a schedule whose row in Beat is gone is there to be seen, but not to be changed."""
        if isinstance(error, ScheduleNotFound) and row.firer == Firer.BEAT:
            return SchedulerError(ORPHANED)
        return super().refusal_of(error, row)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """As the mixin's, and says so where the mirror stayed behind, or where it begins together with many others."""
        super().save_model(request, obj, form, change)
        self.warn_of_mirror(request, obj)
        self.warn_of_herd(request, obj.pk, form.changed_data if change else form.cleaned_data)

    def write(self, obj: Any, form: Any, change: bool) -> None:
        """Through the choke points."""
        if change:
            api.update_schedule(obj.pk, **form.arguments())
            return
        created = api.create_schedule(**form.arguments())
        obj.pk = created.pk

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """As the admin's; a refusal leads back to the list."""
        try:
            return super().delete_view(request, object_id, extra_context)
        except SchedulerError as error:
            self.message_user(request, f"Not deleted. {error}", messages.ERROR)
            return HttpResponseRedirect(reverse(f"{self.admin_site.name}:scheduler_pgperiodicschedule_changelist"))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Through the choke point; the runs stay in the ledger."""
        with self.refusals(obj):
            api.delete_schedule(obj.pk)

    # What can be done besides

    def get_urls(self) -> list[URLPattern]:
        """The preview, besides the actions."""
        preview_url = path("preview/", self.admin_site.admin_view(self.preview_view), name="scheduler_preview")
        return [preview_url, *super().get_urls()]

    def preview_view(self, request: HttpRequest) -> JsonResponse:
        """The next runs of what is being typed."""
        if not (self.has_view_permission(request) or self.has_add_permission(request)):
            raise PermissionDenied
        return JsonResponse(preview.of_input(request.GET.dict(), SHOWN, self.organizations_of(request)))

    @admin.action(description="Delete selected %(verbose_name_plural)s", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Ask as Django's does, then delete each through the choke point."""
        if "post" not in request.POST:
            return delete_selected(self, request, queryset)
        self.act_on_each(
            request,
            queryset,
            lambda row: api.delete_schedule(row.pk),
            "Deleted",
            lambda row: self.log_deletions(request, [row]),  # type: ignore[arg-type]
        )
        return None
