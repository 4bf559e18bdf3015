"""Schedules are handed over to PG, and given back to Celery Beat: of one by a button, of many by the list's actions.

Each asks first, on a page that shows what would become of each schedule, and says afterwards what became of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html

from scheduler import api, beat
from scheduler.admin.actions import ScheduleActions
from scheduler.admin.forms import HandOverForm, ReasonForm
from scheduler.admin.presentation import badge
from scheduler.admin.refusal import NAMED
from scheduler.domain import Firer, Hold
from scheduler.errors import SchedulerError
from scheduler.models import PgPeriodicSchedule

PLANNED = 100
"""Of how many schedules a page shows what would become of them."""
PASSES_OVER = "scheduler.change_handover"
"""Whoever holds it may hand over without the evidence, and say that no Beat runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """To PG, or back."""

    to: Firer
    view: str
    """Name of its page, as in its URL."""
    action: str
    title: str
    button: str
    change: Callable[..., list[api.HandoverAnswer]]


TO_PG = Direction(
    to=Firer.PG,
    view="promote",
    action="promote_selected",
    title="Hand over to PG",
    button="Hand over",
    change=api.promote,
)
TO_BEAT = Direction(
    to=Firer.BEAT,
    view="roll_back",
    action="roll_back_selected",
    title="Give to Celery Beat",
    button="Give to Celery Beat",
    change=api.roll_back,
)


class HandOverActions(ScheduleActions):
    """Mixin of the schedules' admin. Whoever may change a schedule may do both, but for what `PASSES_OVER` is about."""

    def get_urls(self) -> list[URLPattern]:
        """The pages of one schedule."""
        wrap, app = self.admin_site.admin_view, self.opts.app_label
        return [
            path("<path:object_id>/promote/", wrap(self.promote_view), name=f"{app}_promote"),
            path("<path:object_id>/roll-back/", wrap(self.roll_back_view), name=f"{app}_roll_back"),
            *super().get_urls(),
        ]

    def get_actions(self, request: HttpRequest) -> Any:
        """Without Celery Beat there is nobody to hand over from, nor to."""
        offered = super().get_actions(request)
        return offered if beat.is_installed() else {k: v for k, v in offered.items() if k not in _ACTIONS}

    def actions_on(self, row: Any, schedule: PgPeriodicSchedule) -> dict[str, Any]:
        """As the mixin's, and the way that its firer can change."""
        found = _way_of(schedule) if beat.is_installed() else None
        button = found and {"text": found[1], "url": self._link(found[0].view, quote(row.pk))}
        return {**super().actions_on(row, schedule), "hand_over": button}

    def promote_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the plan, and hand one over to PG."""
        return self._change_one(request, object_id, TO_PG)

    def roll_back_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give one to Celery Beat."""
        return self._change_one(request, object_id, TO_BEAT)

    @admin.action(description="Hand selected %(verbose_name_plural)s over to PG…", permissions=["change"])
    def promote_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Show the plan, and hand each over to PG."""
        return self._change_selected(request, queryset, TO_PG)

    @admin.action(description="Give selected %(verbose_name_plural)s to Celery Beat…", permissions=["change"])
    def roll_back_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Give each to Celery Beat."""
        return self._change_selected(request, queryset, TO_BEAT)

    def _change_one(self, request: HttpRequest, object_id: str, way: Direction) -> HttpResponse:
        row = self._changeable(request, object_id)
        form = _form(request, way, is_sent=request.method == "POST")
        if not form.is_valid():
            return self._ask(request, form, way, [row], cancel_url=self._page(row))
        self._change(request, [row.pk], form, way)
        return HttpResponseRedirect(self._page(row))

    def _change_selected(self, request: HttpRequest, rows: QuerySet[Any], way: Direction) -> HttpResponse | None:
        form = _form(request, way, is_sent="confirmed" in request.POST)
        if form.is_valid():
            self._change(request, list(rows.order_by().values_list("pk", flat=True)), form, way)
            return None
        return self._ask(
            request,
            form,
            way,
            list(rows[:PLANNED]),
            selected=request.POST.getlist("_selected_action"),
            select_across=request.POST.get("select_across", "0"),
            total=rows.count(),
            cancel_url=request.get_full_path(),
        )

    def _ask(
        self, request: HttpRequest, form: ReasonForm, way: Direction, rows: list[PgPeriodicSchedule], **extra: Any
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media + form.media,
            "title": way.title,
            "way": way,
            "form": form,
            "rows": rows,
            "total": len(rows),
            "plan": shown_plan(_foreseen(rows, way)),
            "obstacle": api.cutover_status([]).obstacle if way is TO_PG else "",
            **extra,
        }
        return TemplateResponse(request, "admin/scheduler/hand_over.html", context)

    def _change(self, request: HttpRequest, ids: Sequence[UUID], form: ReasonForm, way: Direction) -> None:
        try:
            answers = way.change(api.chosen(schedules=ids), **form.order)
        except SchedulerError as error:
            self.message_user(request, f"Nothing was changed. {error}", messages.ERROR)
            return
        self.tell_answers(request, answers)

    def tell_answers(self, request: HttpRequest, answers: Sequence[api.HandoverAnswer]) -> None:
        """Say what became of the schedules, and write it into their histories."""
        rows = self.get_queryset(request).in_bulk([one.schedule_id for one in answers if one.handover is not None])
        for answer in answers:
            if answer.schedule_id in rows:
                self.log_change(request, rows[answer.schedule_id], _audit(answer))
        groups: dict[tuple[api.HandoverStatus, str], list[api.HandoverAnswer]] = defaultdict(list)
        for answer in sorted(answers, key=lambda one: _ORDER.index(one.status)):
            groups[answer.status, "" if answer.handover is None else answer.handover.to_firer].append(answer)
        for (status, to), group in groups.items():
            level = _LEVELS.get(status, messages.SUCCESS)
            self.message_user(request, self._told(status, to, group), level)
        if not answers:
            self.message_user(request, "No schedule is concerned.", messages.WARNING)

    def _told(self, status: str, to: str, group: Sequence[api.HandoverAnswer]) -> str:
        count = len(group)
        schedules = f"{count} {self.opts.verbose_name if count == 1 else self.opts.verbose_name_plural}"
        if (sentence := _SENTENCES.get((status, to))) is not None:
            return format_html(sentence, schedules=schedules, url=self._link("cutover"), since=_latest(group))
        named = "; ".join(f"{one.name}: {one.reason}" for one in group[:NAMED])
        return f"{schedules} {status}: {named}{' …' if count > NAMED else ''}"


_ORDER = list(api.HandoverStatus)
_ACTIONS = {TO_PG.action, TO_BEAT.action}
_LEVELS = {api.HandoverStatus.REFUSED.value: messages.ERROR, api.HandoverStatus.UNCHANGED.value: messages.WARNING}
_SENTENCES: dict[tuple[str, str], str] = {
    (api.HandoverStatus.DONE, Firer.PG): "PG fires {schedules} now.",
    (api.HandoverStatus.WAITING, Firer.PG): "Handing over {schedules}: PG goes on as soon as Celery Beat has loaded "
    'the change, mostly within seconds. See <a href="{url}">Cutover</a>.',
    (api.HandoverStatus.WAITING, Firer.BEAT): "Giving {schedules} to Celery Beat: PG fires what occurs until {since} "
    'UTC, and Celery Beat what occurs after it. See <a href="{url}">Cutover</a>.',
    (api.HandoverStatus.CANCELLED, Firer.PG): "Took back the hand-over of {schedules}: Celery Beat fires what it "
    "fired, as before.",
}


def _way_of(row: PgPeriodicSchedule) -> tuple[Direction, str] | None:
    """How its firer can change now, and what the button says; None: it is on its way back."""
    if row.firer == Firer.BEAT:
        return TO_PG, "Hand over to PG…"
    if row.beat_from is not None:
        return None
    return TO_BEAT, "Take back to Celery Beat…" if row.hold == Hold.HANDOVER else "Give to Celery Beat…"


def _form(request: HttpRequest, way: Direction, *, is_sent: bool) -> ReasonForm:
    data = request.POST if is_sent else None
    return HandOverForm(data, may_pass_over=may_pass_over(request)) if way is TO_PG else ReasonForm(data)


def may_pass_over(request: HttpRequest) -> bool:
    """Whether the user may hand over without the evidence."""
    return bool(request.user.has_perm(PASSES_OVER))


def _foreseen(rows: Sequence[PgPeriodicSchedule], way: Direction) -> list[api.HandoverAnswer]:
    if way is TO_PG:
        return api.plan_promotion(api.chosen(schedules=[row.pk for row in rows]))
    return [_foresee_return(row) for row in rows]


def _foresee_return(row: PgPeriodicSchedule) -> api.HandoverAnswer:
    status, reason = api.HandoverStatus.READY, "Celery Beat fires what occurs more than 10 seconds from now"
    if row.firer == Firer.BEAT:
        status, reason = api.HandoverStatus.UNCHANGED, "Celery Beat fires it already"
    elif row.beat_from is not None:
        status, reason = api.HandoverStatus.UNCHANGED, "it is on its way back to Celery Beat already"
    elif row.hold == Hold.HANDOVER:
        reason = "its hand-over, which waits, is taken back: Celery Beat goes on firing it"
    name, to = row.pipeline_name, Firer.BEAT
    return api.HandoverAnswer(schedule_id=row.pk, name=name, status=status, to=to, reason=reason)


def shown_plan(answers: Sequence[api.HandoverAnswer]) -> list[dict[str, Any]]:
    """For a page: of each its name, a badge, and why."""
    return [
        {
            "id": quote(one.schedule_id),
            "name": one.name,
            "status": badge(one.status),
            "why": one.reason or (one.evidence.sentence if one.evidence else ""),
        }
        for one in answers
    ]


def _audit(answer: api.HandoverAnswer) -> str:
    handover = answer.handover
    assert handover is not None
    did = "Handed over to PG" if handover.to_firer == Firer.PG else "Given to Celery Beat"
    if answer.status is api.HandoverStatus.CANCELLED:
        return "Took back its hand-over to PG"
    forced = ", without the evidence" if handover.is_forced else ""
    return f"{did} ({answer.status.value}{forced}): {handover.reason or 'no reason given'}"


def _latest(group: Sequence[api.HandoverAnswer]) -> str:
    found: list[datetime] = [one.handover.beat_from for one in group if one.handover and one.handover.beat_from]
    return f"{max(found):%H:%M:%S}" if found else ""
