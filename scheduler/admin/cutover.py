"""The page of the cutover: where it stands, what it waits for, and a rollout by percentage."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from scheduler import api
from scheduler.admin.forms import RampForm
from scheduler.admin.hand_over import PLANNED, HandOverActions, may_pass_over, shown_plan
from scheduler.admin.presentation import badge, moment
from scheduler.admin.scope import ScopedPages
from scheduler.domain import Firer
from scheduler.errors import SchedulerError

LISTED = 50
"""How many hand-overs the page shows that are under way."""


class CutoverPage(ScopedPages, HandOverActions):
    """Mixin of the schedules' admin: the cutover of those that the user may see."""

    def get_urls(self) -> list[URLPattern]:
        """The page."""
        page = path("cutover/", self.admin_site.admin_view(self.cutover_view), name="scheduler_cutover")
        return [page, *super().get_urls()]

    def cutover_view(self, request: HttpRequest) -> HttpResponse:
        """The page; sent, a ramp, or only its plan."""
        if not (self.has_view_permission(request) and request.user.has_perm("scheduler.view_handover")):
            raise PermissionDenied
        form = self._ramp_form(request)
        plan = None
        if request.method == "POST":
            if not self.has_change_permission(request):
                raise PermissionDenied
            if form.is_valid():
                if "plan" not in request.POST:
                    return self._ramp(request, form)
                plan = self._plan(request, form)
        context = {
            **self.admin_site.each_context(request),
            **page_context(api.cutover_status(self.organizations_of(request))),
            "opts": self.opts,
            "title": "Cutover",
            "media": self.media + form.media,
            "form": form,
            "plan": plan,
            "has_change_permission": self.has_change_permission(request),
        }
        return TemplateResponse(request, "admin/scheduler/cutover.html", context)

    def _ramp_form(self, request: HttpRequest) -> RampForm:
        slugs = self.get_queryset(request).order_by("organization_id").values_list("organization_id", flat=True)
        return RampForm(
            request.POST if request.method == "POST" else None,
            organizations=slugs.distinct(),
            may_pass_over=may_pass_over(request),
        )

    def _ramp(self, request: HttpRequest, form: RampForm) -> HttpResponse:
        try:
            organizations = self._organizations(request, form)
            answers = api.ramp(form.cleaned_data["percent"], organizations=organizations, **form.order)
        except SchedulerError as error:
            self.message_user(request, f"Nothing more was handed over. {error}", messages.ERROR)
        else:
            self.tell_answers(request, answers)
        return HttpResponseRedirect(self._link("cutover"))

    def _plan(self, request: HttpRequest, form: RampForm) -> dict[str, Any]:
        """What would be handed over, of what lies below the percentage; what goes back is not among it."""
        choice = api.chosen(organizations=self._organizations(request, form), percent=form.cleaned_data["percent"])
        try:
            answers = api.plan_promotion(choice, is_forced=form.order["is_forced"])
        except SchedulerError as error:
            return {"error": str(error)}
        concerned = [one for one in answers if one.status is not api.HandoverStatus.UNCHANGED]
        ready = sum(one.status is api.HandoverStatus.READY for one in concerned)
        counts = {"ready": ready, "refused": len(concerned) - ready, "unchanged": len(answers) - len(concerned)}
        return {**counts, "rows": shown_plan(concerned[:PLANNED]), "more": max(0, len(concerned) - PLANNED)}

    def _organizations(self, request: HttpRequest, form: RampForm) -> Collection[str] | None:
        slug = form.cleaned_data["organization"]
        return [slug] if slug else self.organizations_of(request)


def page_context(found: api.CutoverStatus) -> dict[str, Any]:
    """For the page's context: counts, Beats, and hand-overs with their schedules' names."""
    every = found.beats + found.pgs
    return {
        "found": found,
        "share": round(100 * found.pgs / every) if every else 0,
        "waiting": _shown(found.waiting[:LISTED], found),
        "more_waiting": max(0, len(found.waiting) - LISTED),
        "latest": _shown(found.latest, found),
    }


def _shown(handovers: Iterable[api.Handover], found: api.CutoverStatus) -> list[dict[str, Any]]:
    return [
        {
            "id": one.pk,
            "schedule": quote(one.schedule_id) if one.schedule_id in found.names else "",
            "name": found.names.get(one.schedule_id, one.beat_name),
            "to": "PG" if one.to_firer == Firer.PG else "Celery Beat",
            "method": one.method,
            "state": badge(one.state),
            "requested": moment(one.requested_at),
            "ended": moment(one.ended_at, beside=one.requested_at),
            "beat_from": moment(one.beat_from, beside=one.requested_at) if one.beat_from else "",
            "actor": one.actor,
            "reason": one.reason or one.outcome.get("why", ""),
            "is_forced": one.is_forced,
            "hint": found.hints.get(one.pk, ""),
        }
        for one in handovers
    ]
