"""`/api/v1/cutover/`: schedules are handed over from Celery Beat to PG, and back. See `scheduler.cutover`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from backend.api.documentation import BAD_REQUEST, documented
from backend.api.filters import BOOLEANS, HandoverFilter
from backend.api.organizations import OrganizationScope, asked_for, named_in_query
from backend.api.refusals import message
from backend.api.serializers.cutover import (
    AnswersSerializer,
    ChoiceSerializer,
    CutoverStatusSerializer,
    HandoverSerializer,
    PromotionSerializer,
    RampSerializer,
)
from backend.api.strictness import StrictSerializer, identities, refuse_unknown_parameters
from scheduler import api
from scheduler.representation import answer_fields, status_fields

PASSES_OVER = "scheduler.change_handover"
"""Whoever holds it may hand over without the evidence, and say that no Beat runs."""

_ORGANIZATION = OpenApiParameter("organization", OpenApiTypes.STR, description="By default all that you may see.")
_PLAN = [
    OpenApiParameter("schedule", OpenApiTypes.UUID, many=True, description="Repeatable; by default all."),
    OpenApiParameter("percent", OpenApiTypes.NUMBER, description="Those whose bucket is below, 0 to 100."),
    OpenApiParameter("force", OpenApiTypes.BOOL, description="What would become of them without the evidence."),
    _ORGANIZATION,
]
_CONFLICT = {409: OpenApiResponse(description='`{"detail": …}`: as things are, none can be handed over, and why.')}
_ANSWERED = {200: AnswersSerializer, **BAD_REQUEST, **_CONFLICT}


class CutoverViewSet(viewsets.ViewSet):
    """The cutover of the schedules that the caller may see, or of one organization's."""

    permission_model = "scheduler.pgperiodicschedule"
    extra_permissions = {"list": ["scheduler.view_handover"], "plan": ["scheduler.view_schedulerun"]}

    @extend_schema(
        summary="Where the cutover stands",
        operation_id="cutover_status",
        parameters=[_ORGANIZATION],
        responses={200: CutoverStatusSerializer, **BAD_REQUEST},
    )
    def list(self, request: Request) -> Response:
        """Who fires how many, which Beats live, what is under way, and what was done last."""
        refuse_unknown_parameters(request, {"organization"})
        return Response(status_fields(api.cutover_status(_organizations(request))))

    @extend_schema(summary="Plan a promotion", parameters=_PLAN, responses={200: AnswersSerializer, **BAD_REQUEST})
    @action(detail=False)
    def plan(self, request: Request) -> Response:
        """What `promote` would do with each, and why not. Changes nothing."""
        refuse_unknown_parameters(request, {"schedule", "organization", "percent", "force"})
        choice = api.chosen(
            schedules=identities(request, "schedule") or None,
            organizations=_organizations(request),
            percent=_number(request, "percent"),
        )
        return _answered(api.plan_promotion(choice, is_forced=_boolean(request, "force")))

    @extend_schema(summary="Hand schedules over to PG", request=PromotionSerializer, responses=_ANSWERED)
    @action(detail=False, methods=["post"])
    def promote(self, request: Request) -> Response:
        """PG fires them from now on. Does not wait: what has to be waited for answers `waiting`."""
        wanted = _read(request, PromotionSerializer)
        _require_right_to_pass_over(request, wanted)
        answers = api.promote(
            _choice(request, wanted),
            is_forced=wanted["force"],
            reason=wanted["reason"],
            is_beat_stopped=wanted["beat_stopped"],
        )
        return _answered(answers)

    @extend_schema(summary="Give schedules back to Celery Beat", request=ChoiceSerializer, responses=_ANSWERED)
    @action(detail=False, methods=["post"])
    def rollback(self, request: Request) -> Response:
        """Celery Beat fires them again, a few seconds from now on. Does not wait."""
        wanted = _read(request, ChoiceSerializer)
        return _answered(api.roll_back(_choice(request, wanted), reason=wanted["reason"]))

    @extend_schema(summary="Have PG fire so many per cent", request=RampSerializer, responses=_ANSWERED)
    @action(detail=False, methods=["post"])
    def ramp(self, request: Request) -> Response:
        """What lies below is handed over, what was handed over above it goes back; an answer for each changed."""
        wanted = _read(request, RampSerializer)
        _require_right_to_pass_over(request, wanted)
        answers = api.ramp(
            wanted["percent"],
            organizations=asked_for(request, wanted.get("organization")),
            is_forced=wanted["force"],
            reason=wanted["reason"],
            is_beat_stopped=wanted["beat_stopped"],
        )
        return _answered(answers)


@documented("hand-over")
class HandoverViewSet(OrganizationScope, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    """Changes of who fires a schedule, the latest first; they outlive the schedule."""

    queryset = api.Handover.objects.all()
    serializer_class = HandoverSerializer
    filterset_class = HandoverFilter
    keyset = ("-requested_at", "-id")
    lookup_value_regex = "[0-9]{1,18}"
    permission_model = "scheduler.handover"


def _organizations(request: Request) -> Sequence[str] | None:
    return asked_for(request, named_in_query(request))


def _read(request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
    refuse_unknown_parameters(request, ())
    body = serializer(data=request.data)
    body.is_valid(raise_exception=True)
    read: dict[str, Any] = body.validated_data
    return read


def _choice(request: Request, wanted: dict[str, Any]) -> Any:
    return api.chosen(
        schedules=wanted.get("schedules"),
        organizations=asked_for(request, wanted.get("organization")),
        percent=wanted.get("percent"),
    )


def _require_right_to_pass_over(request: Request, wanted: dict[str, Any]) -> None:
    """Evidence, and the Beat that everybody shares, are not for each member to pass over."""
    asked = [name for name in ("force", "beat_stopped") if wanted[name]]
    if asked and not request.user.has_perm(PASSES_OVER):
        raise PermissionDenied(f"{asked[0]}: expected the permission {PASSES_OVER}, which you do not have")


def _answered(answers: Sequence[api.HandoverAnswer]) -> Response:
    return Response({"schedules": [answer_fields(answer) for answer in answers]})


def _number(request: Request, name: str) -> float | None:
    text = request.query_params.get(name)
    try:
        return None if text is None else float(text)
    except ValueError:
        raise ValidationError({name: [message("a number from 0 to 100", text)]}) from None


def _boolean(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false")
    if text not in BOOLEANS:
        raise ValidationError({name: [message("true or false", text)]})
    return BOOLEANS[text]
