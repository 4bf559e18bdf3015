"""The pages of a schedule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from pg_queue.api import BoundedPaginator
from scheduler import api
from scheduler.admin import preview
from scheduler.admin.filters import QueueFilter, StateFilter
from scheduler.admin.forms import PauseForm, ScheduleForm
from scheduler.admin.presentation import badge, instant, moment, note, outcome
from scheduler.admin.refusal import RefusalMixin
from scheduler.domain import CatchUp, Firer, Hold, Overlap, ScheduleKind
from scheduler.errors import ScheduleNotFound, SchedulerError
from scheduler.models import PgPeriodicSchedule, ScheduleRun
from scheduler.settings import scheduler_settings

SHOWN = 10
"""How many coming and how many past runs the page of a schedule shows."""
ORPHANED = (
    "Celery Beat fires it, and its periodic task there is gone: nothing fires it any more. Delete the schedule here, "
    "and create it anew if it is still wanted."
)


@admin.register(PgPeriodicSchedule)
class ScheduleAdmin(RefusalMixin, admin.ModelAdmin):  # type: ignore[type-arg]
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
    actions = ("pause_selected", "resume_selected", "run_selected", "delete_selected")
    readonly_fields = ("status", "last_run", "next_run", "created", "updated")
    _what = ("What", {"fields": ["pipeline_name", "organization_id", "task", "args", "kwargs"]})
    _when = ("When", {"fields": [("kind", "cron_string"), ("timezone", "dialect"), ("starts_at", "ends_at")]})
    _how = (
        "How",
        {
            "fields": [
                ("queue", "priority"),
                ("catch_up", "grace_seconds"),
                ("overlap", "jitter_seconds"),
                ("run_limit", "pause_after_failures"),
                ("max_attempts", "workflow_id"),
                "firer",
            ],
            "classes": ["collapse"],
        },
    )
    _now = ("Now", {"fields": [("status", "last_run", "next_run"), ("created", "updated")]})

    class Media:
        css = {"all": ["scheduler/admin.css"]}
        js = ["scheduler/preview.js"]

    # What is shown

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
            **super().get_changeform_initial_data(request),
        }

    @admin.display(description="name", ordering="pipeline_name")
    def name(self, row: PgPeriodicSchedule) -> str:
        """Its name."""
        return row.pipeline_name

    @admin.display(description="state")
    def state_(self, row: PgPeriodicSchedule) -> str:
        """Its state, with the reason where something holds it back."""
        return format_html("{} {}", badge(row.state), note(_reason(row)))

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
        since = row.quarantined_at or row.paused_at
        if since is None or row.state == "active":
            return badge(row.state)
        return format_html("{} {} since {}", badge(row.state), note(_reason(row)), instant(since))

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
        context |= preview.of_form(request.POST, SHOWN) if is_typed else preview.of_row(row, SHOWN)
        if row is not None:
            context["last_runs"] = self._last_runs(row) if self._may_see_runs(request) else []
            context["may_see_runs"] = self._may_see_runs(request)
            context["is_held"] = row.state in {"paused", "quarantined"}
        return super().render_change_form(request, context, *args, **kwargs)

    def _may_see_runs(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("scheduler.view_schedulerun"))

    def _last_runs(self, row: PgPeriodicSchedule) -> list[dict[str, Any]]:
        runs = api.runs_with_live_state(list(ScheduleRun.objects.of_schedule(row.pk).latest_first()[:SHOWN]))
        return [
            {
                "id": run.id,
                "origin": run.origin,
                "state": badge(run.state),
                "scheduled_for": moment(run.scheduled_for),
                "instants": [moment(at, run.scheduled_for) for at in (run.fired_at, run.started_at, run.finished_at)],
                "outcome": outcome(run.result, run.error),
            }
            for run in runs
        ]

    # What is written

    def refusal_of(self, error: SchedulerError | IntegrityError, row: Any) -> SchedulerError | None:
        """As the mixin's; a schedule whose row in Beat is gone is there to be seen, but not to be changed."""
        if isinstance(error, ScheduleNotFound) and row.firer == Firer.BEAT:
            return SchedulerError(ORPHANED)
        return super().refusal_of(error, row)

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
        """The preview, and the actions on one schedule."""
        wrap = self.admin_site.admin_view
        return [
            path("preview/", wrap(self.preview_view), name="scheduler_preview"),
            path("<path:object_id>/pause/", wrap(self.pause_view), name="scheduler_pause"),
            path("<path:object_id>/resume/", wrap(require_POST(self.resume_view)), name="scheduler_resume"),
            path("<path:object_id>/run/", wrap(require_POST(self.run_view)), name="scheduler_run"),
            *super().get_urls(),
        ]

    def preview_view(self, request: HttpRequest) -> JsonResponse:
        """The next runs of what is being typed."""
        if not (self.has_view_permission(request) or self.has_add_permission(request)):
            raise PermissionDenied
        return JsonResponse(preview.of_input(request.GET, SHOWN))

    def pause_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for a reason, then pause."""
        row = self._changeable(request, object_id)
        form = PauseForm(request.POST or None)
        if request.method != "POST" or not form.is_valid():
            return self._ask_reason(request, form, [row], title=f"Pause {row}")
        reason, until = form.cleaned_data["reason"], form.cleaned_data["until"]
        try:
            with self.refusals(row):
                api.pause_schedule(row.pk, reason=reason, until=until)
        except SchedulerError as error:
            return self._refused(request, row, f"Not paused. {error}")
        return self._done(request, row, f"Paused {row}.", _paused(reason))

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Resume from the next occurrence on."""
        row = self._changeable(request, object_id)
        try:
            with self.refusals(row):
                api.resume_schedule(row.pk)
        except SchedulerError as error:
            return self._refused(request, row, f"Not resumed. {error}")
        return self._done(request, row, f"Resumed {row}: it fires at its next occurrence.", "Resumed")

    def run_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Enqueue a run now."""
        row = self._changeable(request, object_id)
        try:
            with self.refusals(row):
                run = api.run_schedule(row.pk)
        except SchedulerError as error:
            return self._refused(request, row, f"Not started. {error}")
        return self._done(request, row, f"Started a run of {row} now.", f"Run now: {run.id}")

    def _changeable(self, request: HttpRequest, object_id: str) -> PgPeriodicSchedule:
        row: PgPeriodicSchedule | None = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if not self.has_change_permission(request, row):
            raise PermissionDenied
        return row

    def _done(self, request: HttpRequest, row: PgPeriodicSchedule, text: str, audit: str) -> HttpResponse:
        self.log_change(request, row, audit)
        self.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(self._page(row))

    def _refused(self, request: HttpRequest, row: PgPeriodicSchedule, text: str) -> HttpResponse:
        self.message_user(request, text, messages.ERROR)
        return HttpResponseRedirect(self._page(row))

    def _page(self, row: PgPeriodicSchedule) -> str:
        return reverse(f"{self.admin_site.name}:scheduler_pgperiodicschedule_change", args=[quote(row.pk)])

    def _ask_reason(
        self, request: HttpRequest, form: PauseForm, rows: list[PgPeriodicSchedule], **extra: Any
    ) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, "form": form, "rows": rows, **extra}
        return TemplateResponse(request, "admin/scheduler/pgperiodicschedule/pause.html", context)

    @admin.action(description="Pause selected schedules…", permissions=["change"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Ask for one reason, then pause each."""
        form = PauseForm(request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            reason, until = form.cleaned_data["reason"], form.cleaned_data["until"]
            act = partial(api.pause_schedule, reason=reason, until=until)
            self._change_each(request, queryset, act, "Paused", _paused(reason))
            return None
        rows = list(queryset[:SHOWN])
        return self._ask_reason(
            request,
            form,
            rows,
            title="Pause schedules",
            selected=request.POST.getlist("_selected_action"),
            select_across=request.POST.get("select_across", "0"),
            total=queryset.count(),
        )

    @admin.action(description="Resume selected schedules", permissions=["change"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Resume each from its next occurrence on."""
        self._change_each(request, queryset, api.resume_schedule, "Resumed", "Resumed")

    @admin.action(description="Run selected schedules now", permissions=["change"])
    def run_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Enqueue a run of each."""
        self._change_each(request, queryset, api.run_schedule, "Started a run of", "Run now")

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

    def _change_each(
        self, request: HttpRequest, rows: QuerySet[Any], act: Callable[[Any], object], verb: str, audit: str
    ) -> None:
        self.act_on_each(request, rows, lambda row: act(row.pk), verb, lambda row: self.log_change(request, row, audit))


def _paused(reason: str) -> str:
    return f"Paused: {reason or 'no reason given'}"


def _reason(row: PgPeriodicSchedule) -> str:
    """What holds it back, in a few words; empty where nothing does."""
    if row.quarantined_at is not None:
        return row.quarantine_error
    if row.enabled:
        return "waits for the run before to end" if row.hold == Hold.OVERLAP else ""
    until = f"until {row.paused_until:%Y-%m-%d %H:%M} UTC" if row.paused_until else ""
    return " ".join(filter(None, (row.pause_note, until)))
