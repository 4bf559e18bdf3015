"""The page that lays Celery Beat's runs beside what the tick would have fired."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone

from scheduler.comparison import compare
from scheduler.comparison.report import as_html, page_context
from scheduler.errors import BeatUnavailable

if TYPE_CHECKING:
    Pages = admin.ModelAdmin[Any]
else:
    Pages = object

WINDOWS = {"1": "last hour", "24": "last 24 hours", "168": "last 7 days"}
"""Hours that the page looks back."""
_DEFAULT = "24"


class ComparisonPage(Pages):
    """Mixin of the schedules' admin: the comparison of those that the user may see, as a page and as a file."""

    def get_urls(self) -> list[URLPattern]:
        """The page, and the report to keep."""
        wrap = self.admin_site.admin_view
        return [
            path("comparison/", wrap(self.comparison_view), name="scheduler_comparison"),
            path("comparison/report.html", wrap(self.report_view), name="scheduler_comparison_report"),
            *super().get_urls(),
        ]

    def comparison_view(self, request: HttpRequest) -> HttpResponse:
        """The page."""
        hours = self._hours(request)
        try:
            made = self._compare(request, hours)
        except BeatUnavailable as error:
            return self._refuse(request, error)
        context = {
            **self.admin_site.each_context(request),
            **page_context(made),
            "opts": self.opts,
            "title": "Celery Beat and Downbeat compared",
            "windows": WINDOWS.items(),
            "hours_chosen": hours,
        }
        return TemplateResponse(request, "admin/scheduler/comparison.html", context)

    def report_view(self, request: HttpRequest) -> HttpResponse:
        """The same as one self-contained file."""
        try:
            response = HttpResponse(as_html(self._compare(request, self._hours(request))))
        except BeatUnavailable as error:
            return self._refuse(request, error)
        response["Content-Disposition"] = 'attachment; filename="comparison.html"'
        return response

    def _compare(self, request: HttpRequest, hours: str) -> Any:
        if not (self.has_view_permission(request) and request.user.has_perm("scheduler.view_schedulerun")):
            raise PermissionDenied
        since = timezone.now() - timedelta(hours=int(hours))
        return compare(since=since, schedules=self.get_queryset(request))

    def _refuse(self, request: HttpRequest, error: BeatUnavailable) -> HttpResponse:
        self.message_user(request, str(error), messages.ERROR)
        return redirect("admin:scheduler_pgperiodicschedule_changelist")

    def _hours(self, request: HttpRequest) -> str:
        chosen = request.GET.get("hours", _DEFAULT)
        return chosen if chosen in WINDOWS else _DEFAULT
