"""What the OpenAPI document says of every view set alike, and the page that shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view

from backend.api.serializers.runs import ExplanationSerializer, RunSerializer
from backend.api.serializers.schedules import PauseSerializer, PreviewSerializer, UpcomingSerializer

View = TypeVar("View", bound=type)

ORGANIZATION = OpenApiParameter(
    "organization", OpenApiTypes.STR, description="Slug of the organization; a list's default is `default`."
)
_REFUSAL = {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}}
BAD_REQUEST = {400: OpenApiResponse(_REFUSAL, description='`{"field": ["expected …, got: …"]}`')}
_SUMMARIES = {
    "list": "List",
    "retrieve": "Show",
    "create": "Create",
    "update": "Replace",
    "partial_update": "Change",
    "destroy": "Delete",
}
_AT = OpenApiParameter(
    "at", OpenApiTypes.DATETIME, required=True, description="The latest occurrence at or before it is explained."
)
COUNT = OpenApiParameter("count", OpenApiTypes.INT, description="1 to 1000, by default 10.")


def documented(noun: str) -> Callable[[View], View]:
    """Class decorator of a view set: summaries, the parameter `organization` and the form of a refusal.

    Also of what `ScheduleActions` adds to one.
    """

    def decorate(view: View) -> View:
        texts = {name: text for name, text in _SUMMARIES.items() if hasattr(view, name)}
        operations = {name: _operation(view, name, f"{text} {noun}") for name, text in texts.items()}
        actions = _actions(view, noun) if hasattr(view, "schedule_of") else {}
        return extend_schema_view(**operations, **actions)(view)

    return decorate


def _actions(view: Any, noun: str) -> dict[str, Any]:
    """Of `ScheduleActions`."""
    shown = {200: view.serializer_class, **BAD_REQUEST}
    return {
        "pause": extend_schema(summary=f"Pause {noun}", request=PauseSerializer, responses=shown),
        "resume": extend_schema(summary=f"Resume {noun}", request=None, responses=shown),
        "run": extend_schema(summary=f"Run {noun} now", request=None, responses={201: RunSerializer, **BAD_REQUEST}),
        "next": extend_schema(
            summary=f"Next occurrences of a {noun}",
            parameters=[COUNT],
            responses={200: UpcomingSerializer, **BAD_REQUEST},
            filters=False,
        ),
        "preview": extend_schema(
            summary=f"What lies ahead of a {noun}, here and under Celery Beat's rules",
            parameters=[COUNT],
            responses={200: PreviewSerializer, **BAD_REQUEST},
            filters=False,
        ),
        "explain": extend_schema(
            summary=f"Why a {noun} did, or did not, run",
            parameters=[_AT],
            responses={200: ExplanationSerializer, **BAD_REQUEST},
            filters=False,
        ),
        "runs": extend_schema(
            summary=f"Runs of a {noun}", parameters=[ORGANIZATION], responses=RunSerializer(many=True)
        ),
    }


def _operation(view: Any, name: str, summary: str) -> Any:
    if name not in {"create", "update", "partial_update"}:
        return extend_schema(summary=f"{summary}s" if name == "list" else summary, parameters=[ORGANIZATION])
    status = 201 if name == "create" else 200
    responses = {status: view.serializer_class, **BAD_REQUEST}
    return extend_schema(summary=summary, parameters=[ORGANIZATION], responses=responses)
