"""Filters of the lists. A parameter that does not exist, or a value that cannot be, is refused with 400."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django.core.exceptions import ValidationError as InvalidValue
from django.db.models import QuerySet
from django_filters.fields import IsoDateTimeField
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from backend.api.refusals import message
from backend.pipelines.domain import ExecutionState
from scheduler.domain import Firer, HandoverState, RunOrigin, RunState, ScheduleKind, ScheduleState

EVERYWHERE = {"cursor", "page_size", "format", "organization"}
LISTS = {"list", "runs", "executions"}
"""The actions that filter."""
BOOLEANS = {"true": True, "false": False}


class StrictFilterBackend(DjangoFilterBackend):
    """Refuses parameters that no filter knows: a misspelt one would answer with everything."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        """As django-filter's. Raises `ValidationError`."""
        filterset = self.get_filterset_class(view, queryset)
        known = EVERYWHERE | set(filterset.base_filters if filterset else ())
        unknown = sorted(set(request.query_params) - known)
        if unknown and view.action in LISTS:
            expected = f"parameters among {', '.join(sorted(known))}"
            raise ValidationError({name: [message(expected, name)] for name in unknown})
        try:
            return super().filter_queryset(request, queryset, view)
        except ValidationError as error:
            raise ValidationError(_worded(error.detail, filterset, request)) from error


def _worded(detail: Any, filterset: Any, request: Request) -> dict[str, list[str]]:
    filters = filterset.base_filters
    return {name: [message(_expectation(filters[name]), _refused(request, name))] for name in detail}


def _refused(request: Request, name: str) -> str:
    return ", ".join(request.query_params.getlist(name))


def _expectation(one: django_filters.Filter) -> str:
    """What `one` accepts, in words."""
    if choices := one.extra.get("choices"):
        return f"one of {', '.join(value for value, _ in choices)}"
    for kind, words in _WORDS.items():
        if isinstance(one, kind):
            return words
    return "text without NUL"


_WORDS = {
    django_filters.UUIDFilter: "a UUID",
    django_filters.IsoDateTimeFilter: "an ISO 8601 instant such as 2030-01-31T06:00:00Z",
}


def _boolean(field: str | None = None) -> django_filters.TypedChoiceFilter:
    return django_filters.TypedChoiceFilter(
        field_name=field, choices=[(b, b) for b in BOOLEANS], coerce=BOOLEANS.get, help_text="true or false"
    )


class InstantField(IsoDateTimeField):
    """An instant, in UTC: PostgreSQL refuses offsets of 16 hours and more, which Python knows."""

    def to_python(self, value: Any) -> datetime | None:
        """As django-filter's. Raises Django's `ValidationError`."""
        found = super().to_python(value)
        try:
            return found.astimezone(UTC) if found else None
        except OverflowError:
            raise InvalidValue(self.error_messages["invalid"], code="invalid") from None


class InstantFilter(django_filters.IsoDateTimeFilter):
    """By an instant."""

    field_class = InstantField


class ScheduleFilter(django_filters.FilterSet):
    """Filters of schedules."""

    name = django_filters.CharFilter(field_name="pipeline_name", lookup_expr="icontains", help_text="Part of the name.")
    task = django_filters.CharFilter()
    queue = django_filters.CharFilter()
    enabled = _boolean("enabled")
    state = django_filters.ChoiceFilter(choices=[(s.value, s.value) for s in ScheduleState], method="in_state")
    firer = django_filters.ChoiceFilter(choices=[(f.value, f.value) for f in Firer])
    kind = django_filters.ChoiceFilter(choices=[(k.value, k.value) for k in ScheduleKind])

    def in_state(self, schedules: QuerySet[Any], name: str, state: str) -> QuerySet[Any]:
        """Those whose field `state` says so."""
        return schedules.in_state(state)  # type: ignore[attr-defined]


class RunFilter(django_filters.FilterSet):
    """Filters of runs."""

    schedule = django_filters.UUIDFilter(field_name="schedule_id")
    state = django_filters.MultipleChoiceFilter(
        choices=[(s.value, s.value) for s in RunState],
        method="by_state",
        help_text="Repeatable. fired and running find each other: which of the two it is, the queue says.",
    )
    origin = django_filters.ChoiceFilter(choices=[(o.value, o.value) for o in RunOrigin])
    scheduled_for_after = InstantFilter(field_name="scheduled_for", lookup_expr="gte")
    scheduled_for_before = InstantFilter(field_name="scheduled_for", lookup_expr="lt")

    def by_state(self, runs: QuerySet[Any], name: str, states: list[str]) -> QuerySet[Any]:
        """Runs whose ledger row may be in one of `states`."""
        wanted = set(states)
        if wanted & {RunState.FIRED, RunState.RUNNING}:
            wanted |= {RunState.FIRED, RunState.RUNNING}
        return runs.filter(state__in=wanted) if wanted else runs


class DeadLetterFilter(django_filters.FilterSet):
    """Filters of dead letters."""

    queue = django_filters.CharFilter()
    task = django_filters.CharFilter()
    died_after = InstantFilter(field_name="died_at", lookup_expr="gte")
    died_before = InstantFilter(field_name="died_at", lookup_expr="lt")


class HandoverFilter(django_filters.FilterSet):
    """Filters of hand-overs."""

    schedule = django_filters.UUIDFilter(field_name="schedule_id")
    state = django_filters.ChoiceFilter(choices=[(s.value, s.value) for s in HandoverState])
    to = django_filters.ChoiceFilter(field_name="to_firer", choices=[(f.value, f.value) for f in Firer])


class PipelineFilter(django_filters.FilterSet):
    """Filters of pipelines."""

    name = django_filters.CharFilter(lookup_expr="icontains", help_text="Part of the name.")
    active = _boolean("active")


class ExecutionFilter(django_filters.FilterSet):
    """Filters of executions."""

    state = django_filters.ChoiceFilter(choices=[(s.value, s.label) for s in ExecutionState])
