"""Filters of the lists that a plain field cannot give."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from scheduler.domain import ScheduleState
from scheduler.models import PgPeriodicSchedule


class StateFilter(admin.SimpleListFilter):
    """By the one word that says how a schedule is."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every state."""
        return [(state.value, state.value) for state in ScheduleState]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Schedules in it."""
        value = self.value()
        return queryset.in_state(value) if value in set(ScheduleState) else queryset  # type: ignore[attr-defined]


class QueueFilter(admin.SimpleListFilter):
    """By queue."""

    title = "queue"
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The queues that schedules use."""
        queues = model_admin.get_queryset(request).order_by("queue").values_list("queue", flat=True)
        return [(queue, queue) for queue in queues.distinct()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Schedules whose runs go there."""
        return queryset.filter(queue=self.value()) if self.value() else queryset


class OrganizationFilter(admin.SimpleListFilter):
    """By organization. A list of runs is always of one: the index that orders the ledger begins with it."""

    title = "organization"
    parameter_name = "organization"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The organizations that have schedules."""
        found = PgPeriodicSchedule.objects.order_by("organization_id").values_list("organization_id", flat=True)
        return [(slug, slug) for slug in found.distinct()]

    def choices(self, changelist: Any) -> Any:
        """As Django's, without `All`."""
        chosen = self.value() or self.default(changelist)
        for slug, title in self.lookup_choices:
            link = changelist.get_query_string({self.parameter_name: slug})
            yield {"selected": slug == chosen, "query_string": link, "display": title}

    def default(self, changelist: Any) -> str | None:
        """`default` where there is one, otherwise the first."""
        slugs = [slug for slug, _ in self.lookup_choices]
        return "default" if "default" in slugs or not slugs else slugs[0]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Runs of the organization; of one schedule, whoever's it is."""
        if "schedule" in request.GET:
            return queryset
        return queryset.filter(organization_id=self.value() or self.default(None))


class RecentFilter(admin.SimpleListFilter):
    """By how long ago a run was due."""

    title = "scheduled for"
    parameter_name = "recent"
    _hours = {"1": "The last hour", "24": "The last 24 hours", "168": "The last 7 days"}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Three windows."""
        return list(self._hours.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Runs due in it."""
        value = self.value()
        return (
            queryset.filter(scheduled_for__gte=Now() - timedelta(hours=int(value)))
            if value in self._hours
            else queryset
        )


class ScheduleFilter(admin.SimpleListFilter):
    """By schedule, from a link on its page; shown only while it is in force."""

    title = "schedule"
    parameter_name = "schedule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The one that is chosen."""
        chosen = self.used_parameters.get(self.parameter_name) or [""]
        value = str(chosen[-1] if isinstance(chosen, list) else chosen)
        return [(value, value)] if value else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Runs of that schedule; none for what is no id."""
        if not self.value():
            return queryset
        try:
            return queryset.filter(schedule_id=uuid.UUID(str(self.value())))
        except ValueError:
            return queryset.none()
