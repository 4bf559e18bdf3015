"""The pages of the two apps and of Celery Beat, with organizations isolated from each other.

The apps know organizations by name only, and their own pages show everything to whoever may see a model.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import IntegrityError
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest

from backend.pipelines import organizations, services
from backend.pipelines.scope import OneOrganizationFilter, OrganizationFilter, OrganizationScope, SuperusersOnly
from pg_queue.admin import (
    DeadLetterAdmin,
    EventAdmin,
    LeaderAdmin,
    MessageAdmin,
    OperationAdmin,
    ResultAdmin,
    SwitchAdmin,
    WorkerAdmin,
)
from pg_queue.models import DeadLetter, Event, Leader, Message, Operation, Result, Switch, Worker
from scheduler.admin import (
    BeatCatchAdmin,
    BeatProcessAdmin,
    BeatSendAdmin,
    HandoverAdmin,
    MirrorDriftAdmin,
    MirrorFailureAdmin,
    RunAdmin,
    ScheduleAdmin,
)
from scheduler.api import (
    BeatCatch,
    BeatProcess,
    BeatSend,
    Handover,
    MirrorDrift,
    MirrorFailure,
    PgPeriodicSchedule,
    ScheduleRun,
)

admin.site.unregister(
    [PgPeriodicSchedule, ScheduleRun, MirrorFailure, MirrorDrift, BeatCatch, BeatProcess, BeatSend, Handover]
)
admin.site.unregister([Message, Result, DeadLetter, Event, Worker, Leader, Switch, Operation])


@admin.register(PgPeriodicSchedule)
class OrganizationScheduleAdmin(OrganizationScope, ScheduleAdmin):
    """The scheduler's pages of schedules, with the organization as a choice."""

    list_filter = (*ScheduleAdmin.list_filter, OrganizationFilter)

    def refusal_of(self, error: Any, row: Any) -> Any:
        """As the scheduler's; a pipeline's schedule cannot take the name of another pipeline."""
        taken = services.refusal(error, row.pipeline_name) if isinstance(error, IntegrityError) else None
        return taken or super().refusal_of(error, row)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offers the organizations that the user may see."""
        if db_field.name == "organization_id":
            choices = [(o.slug, o.name) for o in organizations.visible_to(request.user)]
            return forms.ChoiceField(choices=choices, label="Organization")
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def organizations_of(self, request: HttpRequest) -> list[str] | None:
        """Those that the user may see."""
        return organizations.visible_slugs(request.user)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """As the scheduler's; refuses what would part the schedule from its pipeline. Raises `InvalidInput`."""
        if change:
            services.check_schedule_change(obj.pk, form.arguments())
        super().save_model(request, obj, form, change)


@admin.register(ScheduleRun)
class OrganizationRunAdmin(OrganizationScope, RunAdmin):
    """The scheduler's pages of runs."""

    list_filter = (*RunAdmin.list_filter[:-1], OneOrganizationFilter)


@admin.register(MirrorFailure)
class OrganizationMirrorFailureAdmin(MirrorFailureAdmin):
    """The scheduler's pages of failed mirror writes, each seen by whoever may see its schedule."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Those of visible schedules; where the mirror row is missing, its organization is in what was to be written.

        Where neither tells the organization, a failure is for superusers.
        """
        rows = super().get_queryset(request)
        if request.user.is_superuser:  # type: ignore[union-attr]
            return rows
        schedules = PgPeriodicSchedule.objects.filter(pk=OuterRef("schedule_id"))
        mine = organizations.visible_rows(request.user, schedules)
        slugs = list(organizations.visible_to(request.user).values_list("slug", flat=True))
        intended = Q(intended__fields__organization_id__in=slugs)
        return rows.filter(Exists(mine) | (~Exists(schedules) & intended))


@admin.register(MirrorDrift)
class OrganizationMirrorDriftAdmin(OrganizationScope, MirrorDriftAdmin):
    """The scheduler's pages of differences from Beat's rows; those of an unknown organization are for superusers."""


def _of_visible_schedules(request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Rows whose schedule the user may see; all of them for a superuser."""
    if request.user.is_superuser:  # type: ignore[union-attr]
        return rows
    schedules = PgPeriodicSchedule.objects.filter(pk=OuterRef("schedule_id"))
    return rows.filter(Exists(organizations.visible_rows(request.user, schedules)))


@admin.register(BeatCatch)
class OrganizationBeatCatchAdmin(BeatCatchAdmin):
    """The scheduler's pages of what the tripwire caught, each seen by whoever may see its schedule."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Those of visible schedules; of a schedule that was deleted, superusers see them."""
        return _of_visible_schedules(request, super().get_queryset(request))


@admin.register(BeatSend)
class OrganizationBeatSendAdmin(BeatSendAdmin):
    """The scheduler's pages of Beat's sends, each seen by whoever may see its schedule; the others by superusers."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Those of visible schedules."""
        return _of_visible_schedules(request, super().get_queryset(request))


@admin.register(Handover)
class OrganizationHandoverAdmin(OrganizationScope, HandoverAdmin):
    """The scheduler's pages of hand-overs."""

    list_filter = (*HandoverAdmin.list_filter, OrganizationFilter)


@admin.register(BeatProcess)
class SuperusersBeatProcessAdmin(SuperusersOnly, BeatProcessAdmin):
    """The scheduler's pages of Beat's processes."""


class OfOrganization(OrganizationScope):
    """The queue's pages: each row names its organization."""

    def get_list_display(self, request: HttpRequest) -> Any:
        """With the organization."""
        return (*super().get_list_display(request), "organization_id")  # type: ignore[misc]

    def get_list_filter(self, request: HttpRequest) -> Any:
        """With the organization."""
        return (*super().get_list_filter(request), OrganizationFilter)  # type: ignore[misc]


@admin.register(Message)
class OrganizationMessageAdmin(OfOrganization, MessageAdmin):
    """The queue's pages of messages."""


@admin.register(Result)
class OrganizationResultAdmin(OfOrganization, ResultAdmin):
    """The queue's pages of results."""


@admin.register(DeadLetter)
class OrganizationDeadLetterAdmin(OfOrganization, DeadLetterAdmin):
    """The queue's pages of dead letters; what a user cannot see they cannot replay."""


@admin.register(Worker)
class SuperusersWorkerAdmin(SuperusersOnly, WorkerAdmin):
    """The queue's pages of workers."""


@admin.register(Switch)
class SuperusersSwitchAdmin(SuperusersOnly, SwitchAdmin):
    """The queue's pages of switches: a queue is shared by the organizations."""


@admin.register(Operation)
class SuperusersOperationAdmin(SuperusersOnly, OperationAdmin):
    """The queue's record of what operators did."""


@admin.register(Event)
class SuperusersEventAdmin(SuperusersOnly, EventAdmin):
    """The queue's pages of the outbox."""


@admin.register(Leader)
class SuperusersLeaderAdmin(SuperusersOnly, LeaderAdmin):
    """The queue's pages of leaders."""
