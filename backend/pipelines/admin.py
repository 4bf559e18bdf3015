"""Admin of organizations, pipelines and executions."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from backend.pipelines import organizations
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
from pg_queue.api import BoundedPaginator
from scheduler.admin import preview
from scheduler.admin.forms import JsonField, SuggestingInput, task_names, zone_names
from scheduler.admin.presentation import badge, brief, instant, pretty
from scheduler.admin.readonly import ReadOnlyAdmin
from scheduler.admin.refusal import RefusableForm, RefusalMixin
from scheduler.api import PgPeriodicSchedule

SHOWN = 10


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
class PipelineAdmin(OrganizationScope, RefusalMixin, admin.ModelAdmin):
    """Pipelines. Saving one writes its schedule too, through the choke points."""

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
    actions = ("activate_selected", "deactivate_selected")

    class Media:
        css = {"all": ["scheduler/admin.css"]}
        js = ["scheduler/preview.js"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With what the list shows of each, in the same query."""
        return super().get_queryset(request).with_summary()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The organization is chosen on creation."""
        return ("organization",) if obj else ()

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

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Adds the coming and the last runs."""
        row = kwargs.get("obj")
        schedule = PgPeriodicSchedule.objects.filter(pk=row.pk).first() if row else None
        context["preview_url"] = reverse("admin:scheduler_preview")
        context["schedule"] = schedule
        context |= preview.of_row(schedule, SHOWN)
        if row and request.user.has_perm("pipelines.view_pipelineexecution"):
            context["may_see_executions"] = True
            context["executions"] = [_shown(e) for e in row.executions.order_by("-started_at", "id")[:SHOWN]]
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.action(description="Activate selected pipelines", permissions=["change"])
    def activate_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Resume their schedules."""
        self._switch(request, queryset, True)

    @admin.action(description="Deactivate selected pipelines", permissions=["change"])
    def deactivate_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Pause their schedules."""
        self._switch(request, queryset, False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[Any], active: bool) -> None:
        def switch(row: Pipeline) -> None:
            row.active = active
            row.save()

        verb = "Activated" if active else "Deactivated"
        rows = queryset.exclude(active=active)
        self.act_on_each(request, rows, switch, verb, lambda row: self.log_change(request, row, verb))


def _shown(execution: PipelineExecution) -> dict[str, Any]:
    return {
        "id": execution.pk,
        "state": badge(execution.state),
        "started": instant(execution.started_at),
        "finished": instant(execution.finished_at),
        "outcome": execution.error or brief(execution.result),
    }


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
