"""Admin of organizations, pipelines and executions."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from backend.pipelines import organizations, services
from backend.pipelines.models import (
    Membership,
    Organization,
    Pipeline,
    PipelineExecution,
    PipelineStep,
    StepExecution,
    TimeZoneSummary,
)
from backend.pipelines.scope import OrganizationFilter, OrganizationScope
from pg_queue.api import BoundedPaginator, OfferedLookups
from scheduler import api
from scheduler.admin import preview
from scheduler.admin.actions import SHOWN, ScheduleActions, status_of
from scheduler.admin.forms import JsonField, SuggestingInput, task_names, zone_names
from scheduler.admin.presentation import badge, brief, instant, note, pretty
from scheduler.admin.readonly import ReadOnlyAdmin
from scheduler.admin.refusal import RefusableForm
from scheduler.admin.runs import latest_runs, shown_run
from scheduler.api import PgPeriodicSchedule, RunView, ScheduleNotFound, SchedulerError

NO_SCHEDULE = "Its schedule was deleted: save the pipeline to make a new one."


class MembershipInline(admin.TabularInline):
    """Who belongs to an organization."""

    model = Membership
    autocomplete_fields = ["user"]
    extra = 0


@admin.register(Organization)
class OrganizationAdmin(OrganizationScope, admin.ModelAdmin):
    """Organizations and their members."""

    organization_field = "slug"
    list_display = ("slug", "name")
    search_fields = ("slug", "name")
    inlines = [MembershipInline]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The slug stands in other rows: it is chosen once."""
        return ("slug",) if obj else ()


class StepForm(forms.ModelForm):
    """A step."""

    class Meta:
        model = PipelineStep
        fields = ["position", "task", "args", "kwargs"]
        field_classes = {"args": JsonField, "kwargs": JsonField}
        widgets = {
            "position": forms.NumberInput(attrs={"class": "db-position", "min": 1}),
            "task": SuggestingInput(task_names, {"autocomplete": "off"}),
            "args": forms.Textarea(attrs={"rows": 1, "class": "db-code db-narrow"}),
            "kwargs": forms.Textarea(attrs={"rows": 1, "class": "db-code"}),
        }

    def clean_args(self) -> Any:
        """Empty means none."""
        return [] if self.cleaned_data["args"] is None else self.cleaned_data["args"]

    def clean_kwargs(self) -> Any:
        """Empty means none."""
        return {} if self.cleaned_data["kwargs"] is None else self.cleaned_data["kwargs"]


class StepInline(admin.TabularInline):
    """The steps of a pipeline, in order."""

    model = PipelineStep
    form = StepForm
    extra = 1
    verbose_name = "step"
    verbose_name_plural = "steps, in ascending order of position"


class PipelineForm(RefusableForm):
    """A pipeline."""

    class Meta:
        model = Pipeline
        fields = ["name", "organization", "active", "expression", "timezone", "dialect"]
        widgets = {
            "name": admin.widgets.AdminTextInputWidget(attrs={"class": "vTextField db-wide"}),
            "expression": admin.widgets.AdminTextInputWidget(attrs={"spellcheck": "false"}),
            "timezone": SuggestingInput(zone_names, {"class": "vTextField", "autocomplete": "off"}),
        }


@admin.register(Pipeline)
class PipelineAdmin(OrganizationScope, OfferedLookups, ScheduleActions, admin.ModelAdmin):
    """Pipelines: create, edit, pause, resume, run now, delete. Their schedules follow, through the choke points."""

    form = PipelineForm
    change_form_template = "admin/pipelines/pipeline_form.html"
    list_display = ("name", "state", "expression", "timezone", "steps_", "last", "organization")
    list_filter = ("active", OrganizationFilter)
    list_select_related = ("organization",)
    search_fields = ("name", "=id")
    search_help_text = "Name or id"
    ordering = ("name", "id")
    list_per_page = 50
    show_full_result_count = False
    paginator = BoundedPaginator
    inlines = [StepInline]
    actions = ("pause_selected", "resume_selected", "run_selected")
    _what = ("name", "organization", "expression", "timezone", "dialect")
    _now = ("Now", {"fields": [("status", "last_run", "next_run")]})

    class Media:
        css = {"all": ["scheduler/admin.css"]}
        js = ["scheduler/preview.js"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With what the list shows of each, in the same query."""
        return super().get_queryset(request).with_summary()

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """A pipeline with its schedule as `schedule`; None where that was deleted on its own."""
        row = super().get_object(request, object_id, from_field)
        if row is not None:
            row.schedule = PgPeriodicSchedule.objects.filter(pk=row.pk).first()
        return row

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """A new pipeline may start inactive; an existing one shows its state instead, and is paused and resumed."""
        if obj is None:
            return [(None, {"fields": (*self._what[:2], "active", *self._what[2:])})]
        return [self._now, ("What and when", {"fields": self._what})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The organization is chosen on creation."""
        return ("organization", "status", "last_run", "next_run") if obj else ()

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offers the organizations that the user may see."""
        if db_field.name == "organization":
            kwargs["queryset"] = organizations.visible_to(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @admin.display(description="state")
    def state(self, row: Any) -> str:
        """Whether its schedule runs."""
        return badge("active" if row.active else "paused")

    @admin.display(description="steps")
    def steps_(self, row: Any) -> int:
        """How many."""
        return row.step_count

    @admin.display(description="last execution")
    def last(self, row: Any) -> str:
        """State and beginning of the last one."""
        if row.last_state is None:
            return "never run"
        return format_html("{} {}", badge(row.last_state), instant(row.last_started_at))

    @admin.display(description="state")
    def status(self, row: Any) -> str:
        """State of its schedule, the reason, and since when."""
        return note(NO_SCHEDULE) if row.schedule is None else status_of(row.schedule)

    @admin.display(description="last run")
    def last_run(self, row: Any) -> str:
        """The occurrence fired last."""
        return instant(row.schedule and row.schedule.last_run_at)

    @admin.display(description="next run")
    def next_run(self, row: Any) -> str:
        """The next occurrence; a dash while nothing will be fired."""
        is_ahead = row.schedule is not None and row.schedule.state == "active"
        return instant(api.next_run_at(row.schedule) if is_ahead else None)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Adds the coming and the last runs, and what may be done."""
        row = kwargs.get("obj")
        schedule = row.schedule if row else None
        context |= {"preview_url": reverse("admin:scheduler_preview"), "schedule": schedule}
        context |= preview.of_row(schedule, SHOWN)
        if schedule:
            context |= self.actions_on(row, schedule)
        elif row:
            context["upcoming_error"] = NO_SCHEDULE
        if row and request.user.has_perm("pipelines.view_pipelineexecution"):
            context |= self._runs_of(row, request.user)
        return super().render_change_form(request, context, *args, **kwargs)

    def write(self, obj: Any, form: Any, change: bool) -> None:
        """What was typed, and nothing else: what others changed since the page was opened stays."""
        if change and not services.refresh(obj, keep=form.changed_data):
            raise Http404
        obj.save()

    def refusal_of(self, error: SchedulerError | IntegrityError, row: Any) -> SchedulerError | None:
        """As the mixin's; a pipeline's schedule may have been deleted on its own, here or in Beat."""
        if isinstance(error, ScheduleNotFound):
            return SchedulerError(NO_SCHEDULE)
        return super().refusal_of(error, row)

    def _runs_of(self, row: Pipeline, user: Any) -> dict[str, Any]:
        """Each run leads to its execution, which shows the steps, where there is one."""
        runs = latest_runs(row.pk, SHOWN)
        executed = set(PipelineExecution.objects.filter(pk__in=[r.id for r in runs]).values_list("pk", flat=True))
        may_see_ledger = user.has_perm("scheduler.view_schedulerun")

        def url(run: RunView) -> str | None:
            if run.id in executed:
                return reverse("admin:pipelines_pipelineexecution_change", args=[run.id])
            return reverse("admin:scheduler_schedulerun_change", args=[run.id]) if may_see_ledger else None

        links = [(f"{reverse('admin:pipelines_pipelineexecution_changelist')}?q={row.pk}", "All executions")]
        if may_see_ledger:
            links.append((f"{reverse('admin:scheduler_schedulerun_changelist')}?schedule={row.pk}", "All runs"))
        return {"may_see_runs": True, "last_runs": [shown_run(r, url(r)) for r in runs], "all_runs": links}


class StepExecutionInline(admin.TabularInline):
    """What became of each step."""

    model = StepExecution
    fields = ("position", "task", "state_", "started", "finished", "result_", "error")
    readonly_fields = fields
    can_delete = False
    extra = 0
    verbose_name_plural = "steps"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may see the execution."""
        return bool(request.user.has_perm("pipelines.view_pipelineexecution"))

    @admin.display(description="state")
    def state_(self, row: StepExecution) -> str:
        """Its state."""
        return badge(row.get_state_display())

    @admin.display(description="started")
    def started(self, row: StepExecution) -> str:
        """When it began."""
        return instant(row.started_at)

    @admin.display(description="finished")
    def finished(self, row: StepExecution) -> str:
        """When it ended."""
        return instant(row.finished_at)

    @admin.display(description="result")
    def result_(self, row: StepExecution) -> str:
        """What it returned, which the next step may take as `previous`."""
        return pretty(row.result)


@admin.register(PipelineExecution)
class PipelineExecutionAdmin(OrganizationScope, ReadOnlyAdmin):
    """Executions of pipelines, read-only."""

    list_display = ("pipeline_name", "state_", "started", "finished", "attempt", "outcome", "organization")
    list_filter = ("state", OrganizationFilter)
    list_select_related = ("organization",)
    search_fields = ("=id", "=pipeline__id")
    search_help_text = "Id of the execution or of its pipeline"
    ordering = ("-started_at", "id")
    list_per_page = 50
    show_full_result_count = False
    paginator = BoundedPaginator
    fields = ("pipeline_name", "organization", "state_", "attempt", "started", "finished", "result_", "error_", "run")
    inlines = [StepExecutionInline]

    @admin.display(description="state")
    def state_(self, row: PipelineExecution) -> str:
        """Its state."""
        return badge(row.state)

    @admin.display(description="started", ordering="started_at")
    def started(self, row: PipelineExecution) -> str:
        """When it began."""
        return instant(row.started_at)

    @admin.display(description="finished")
    def finished(self, row: PipelineExecution) -> str:
        """When it ended."""
        return instant(row.finished_at)

    @admin.display(description="result")
    def outcome(self, row: PipelineExecution) -> str:
        """Its result or error, on one line."""
        return row.error or brief(row.result)

    @admin.display(description="result")
    def result_(self, row: PipelineExecution) -> str:
        """What the last step returned."""
        return pretty(row.result)

    @admin.display(description="error")
    def error_(self, row: PipelineExecution) -> str:
        """Why it failed."""
        return row.error or instant(None)

    @admin.display(description="run")
    def run(self, row: PipelineExecution) -> str:
        """The run in the ledger."""
        return format_html('<a href="{}">{}</a>', reverse("admin:scheduler_schedulerun_change", args=[row.pk]), row.pk)


@admin.register(TimeZoneSummary)
class TimeZoneSummaryAdmin(ReadOnlyAdmin):
    """What the demo pipeline writes."""

    list_display = ("year", "region", "zones", "changes", "forward", "backward", "first", "last")
    list_filter = ("year", "region")
    ordering = ("-year", "region")

    @admin.display(description="first")
    def first(self, row: TimeZoneSummary) -> str:
        """The first change of the year."""
        return instant(row.first_at)

    @admin.display(description="last")
    def last(self, row: TimeZoneSummary) -> str:
        """The last change of the year."""
        return instant(row.last_at)
