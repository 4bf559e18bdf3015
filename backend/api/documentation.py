"""What the OpenAPI document says of every view set alike, and the page that shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view

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


def documented(noun: str) -> Callable[[View], View]:
    """Class decorator of a view set: summaries, the parameter `organization` and the form of a refusal."""

    def decorate(view: View) -> View:
        texts = {name: text for name, text in _SUMMARIES.items() if hasattr(view, name)}
        return extend_schema_view(**{name: _operation(view, name, f"{text} {noun}") for name, text in texts.items()})(
            view
        )

    return decorate


def _operation(view: Any, name: str, summary: str) -> Any:
    if name not in {"create", "update", "partial_update"}:
        return extend_schema(summary=f"{summary}s" if name == "list" else summary, parameters=[ORGANIZATION])
    status = 201 if name == "create" else 200
    responses = {status: view.serializer_class, **BAD_REQUEST}
    return extend_schema(summary=summary, parameters=[ORGANIZATION], responses=responses)
