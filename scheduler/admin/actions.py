"""What can be done with a schedule, on its own page and on that of whatever has a schedule of its own id."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from scheduler import api
from scheduler.admin.forms import PauseForm
from scheduler.admin.presentation import badge, instant, note
from scheduler.admin.refusal import RefusalMixin
from scheduler.domain import Hold
from scheduler.errors import SchedulerError
from scheduler.models import PgPeriodicSchedule

if TYPE_CHECKING:
    Pages = admin.ModelAdmin[Any]
else:
    Pages = object

SHOWN = 10
"""How many coming and how many past runs the page of a schedule shows."""


class ScheduleActions(RefusalMixin, Pages):
    """Mixin of a model admin whose rows have a schedule of their own id: pause with a reason, resume, run now.

    Of one row by buttons on its page (`admin/scheduler/buttons.html`, with the context of `actions_on`), of many by the
    list's actions, if the admin names them in `actions`. Whoever may change the row may do each.
    """

    def get_urls(self) -> list[URLPattern]:
        """The actions on one row, as `<app>_pause` and so on."""
        views = {"pause": self.pause_view, "resume": require_POST(self.resume_view), "run": require_POST(self.run_view)}
        wrap, app = self.admin_site.admin_view, self.opts.app_label
        return [
            *(path(f"<path:object_id>/{name}/", wrap(view), name=f"{app}_{name}") for name, view in views.items()),
            *super().get_urls(),
        ]

    def actions_on(self, row: Any, schedule: PgPeriodicSchedule) -> dict[str, Any]:
        """For the context of the row's page: what may be done."""
        urls = {f"{name}_url": self._link(name, quote(row.pk)) for name in ("pause", "resume", "run")}
        return {**urls, "is_held": schedule.state in {"paused", "quarantined"}}

    def pause_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for a reason, then pause."""
        row = self._changeable(request, object_id)
        form = PauseForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            return self._ask_reason(request, form, [row], title=f"Pause {row}", cancel_url=self._page(row))
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

    def _changeable(self, request: HttpRequest, object_id: str) -> Any:
        row: Any = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if not self.has_change_permission(request, row):
            raise PermissionDenied
        return row

    def _done(self, request: HttpRequest, row: Any, text: str, audit: str) -> HttpResponse:
        self.log_change(request, row, audit)
        self.message_user(request, text, messages.SUCCESS)
        self.warn_of_mirror(request, row)
        return HttpResponseRedirect(self._page(row))

    def warn_of_mirror(self, request: HttpRequest, row: Any) -> None:
        """Say so where Beat's row was written and ours was not: the pages go on showing what was before."""
        failure = api.mirror_failures().of_schedule(row.pk).first()
        if failure is not None:
            why = (failure.error.splitlines() or [""])[0]
            text = (
                f"Celery Beat has the change, but its copy here could not be written, so that it is not seen yet: {why}"
            )
            self.message_user(request, text, messages.WARNING)

    def _refused(self, request: HttpRequest, row: Any, text: str) -> HttpResponse:
        self.message_user(request, text, messages.ERROR)
        return HttpResponseRedirect(self._page(row))

    def _page(self, row: Any) -> str:
        return self._link(f"{self.opts.model_name}_change", quote(row.pk))

    def _link(self, name: str, *args: Any) -> str:
        return reverse(f"{self.admin_site.name}:{self.opts.app_label}_{name}", args=args)

    def _ask_reason(self, request: HttpRequest, form: PauseForm, rows: list[Any], **extra: Any) -> HttpResponse:
        shown = {"opts": self.opts, "media": self.media + form.media, "form": form, "rows": rows}
        context = {**self.admin_site.each_context(request), **shown, **extra}
        return TemplateResponse(request, "admin/scheduler/pause.html", context)

    @admin.action(description="Pause selected %(verbose_name_plural)s…", permissions=["change"])
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
            title=f"Pause {self.opts.verbose_name_plural}",
            selected=request.POST.getlist("_selected_action"),
            select_across=request.POST.get("select_across", "0"),
            total=queryset.count(),
            cancel_url=request.get_full_path(),
        )

    @admin.action(description="Resume selected %(verbose_name_plural)s", permissions=["change"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Resume each from its next occurrence on."""
        self._change_each(request, queryset, api.resume_schedule, "Resumed", "Resumed")

    @admin.action(description="Run selected %(verbose_name_plural)s now", permissions=["change"])
    def run_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Enqueue a run of each."""
        self._change_each(request, queryset, api.run_schedule, "Started a run of", "Run now")

    def _change_each(
        self, request: HttpRequest, rows: QuerySet[Any], act: Callable[[Any], object], verb: str, audit: str
    ) -> None:
        self.act_on_each(request, rows, lambda row: act(row.pk), verb, lambda row: self.log_change(request, row, audit))


def _paused(reason: str) -> str:
    return f"Paused: {reason or 'no reason given'}"


def reason_of(row: PgPeriodicSchedule) -> str:
    """What holds it back, in a few words, and where it is on its way to; empty where nothing does."""
    return "; ".join(filter(None, (_held_back(row), _on_the_way(row))))


def _held_back(row: PgPeriodicSchedule) -> str:
    if row.quarantined_at is not None:
        return row.quarantine_error
    if row.enabled:
        return "waits for the run before to end" if row.hold == Hold.OVERLAP else ""
    until = f"until {row.paused_until:%Y-%m-%d %H:%M} UTC" if row.paused_until else ""
    return " ".join(filter(None, (row.pause_note, until)))


def _on_the_way(row: PgPeriodicSchedule) -> str:
    if row.beat_from is not None:
        return f"goes back to Celery Beat at {row.beat_from:%Y-%m-%d %H:%M:%S} UTC"
    return "is being handed over: waits for Celery Beat" if row.hold == Hold.HANDOVER else ""


def status_of(row: PgPeriodicSchedule) -> str:
    """Its state, its reason, since when, and where it is on its way to."""
    since = row.quarantined_at or row.paused_at
    if since is None or row.state == "active":
        return format_html("{} {}", badge(row.state), note(reason_of(row)))
    told = format_html("{} {} since {}", badge(row.state), note(_held_back(row)), instant(since))
    return format_html("{}; {}", told, note(way)) if (way := _on_the_way(row)) else told
