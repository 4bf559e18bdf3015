"""Keyset pages: each begins after a row's own values, so that depth costs nothing and no row is met twice."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BadBase64
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from django.core.exceptions import ValidationError as InvalidValue
from django.db.models import Q, QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from backend.api.refusals import message

PAGE_SIZE, LARGEST_PAGE = 50, 500
LONGEST_CURSOR = 256
"""In characters; those of our links have at most 120."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: after (or, going back, before) the row with these values of the ordering's fields."""

    values: tuple[str, ...]
    is_backward: bool = False

    def encode(self) -> str:
        """As it stands in a link."""
        return urlsafe_b64encode(json.dumps([self.is_backward, *self.values]).encode()).decode().rstrip("=")


def decode(text: str, length: int) -> Cursor:
    """Raises `ValidationError` for what `Cursor.encode` has not made."""
    if len(text) > LONGEST_CURSOR:
        raise _bad_cursor(text)
    try:
        is_backward, *values = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, BadBase64, TypeError, RecursionError):
        raise _bad_cursor(text) from None
    if not isinstance(is_backward, bool) or len(values) != length or not all(isinstance(v, str) for v in values):
        raise _bad_cursor(text)
    return Cursor(tuple(values), is_backward)


def _bad_cursor(text: str) -> ValidationError:
    return ValidationError({"cursor": [message("the cursor of a `next` or `previous` link", text)]})


class KeysetPagination(BasePagination):
    """Pages of a view's `keyset`: one or two fields, the last of them unique, each ascending or (`-`) descending."""

    def paginate_queryset(self, queryset: QuerySet[Any], request: Request, view: Any = None) -> list[Any]:
        """At most a page of rows, in the keyset's order."""
        self.url = request.build_absolute_uri()
        self.fields: tuple[str, ...] = view.keyset
        self.cursor = self._cursor(request, queryset)
        size = _page_size(request)
        rows = self._rows(queryset, size + 1)
        self.has_more = len(rows) > size
        self.page = rows[:size]
        if self.cursor and self.cursor.is_backward:
            self.page.reverse()
        return self.page

    def _cursor(self, request: Request, queryset: QuerySet[Any]) -> Cursor | None:
        text = request.query_params.get("cursor")
        if not text:
            return None
        cursor = decode(text, len(self.fields))
        for name, value in zip(self.fields, cursor.values, strict=True):
            _require_written_here(queryset, name.lstrip("-"), value, text)
        return cursor

    def _rows(self, queryset: QuerySet[Any], limit: int) -> list[Any]:
        fields = self.fields
        if self.cursor is None:
            return list(queryset.order_by(*fields)[:limit])
        if self.cursor.is_backward:
            fields = tuple(f[1:] if f.startswith("-") else f"-{f}" for f in fields)
        return list(queryset.filter(beyond(fields, self.cursor.values)).order_by(*fields)[:limit])

    def get_paginated_response(self, data: Any) -> Response:
        """`results`, `next` and `previous`; the links are null at the ends."""
        return Response({"next": self._next(), "previous": self._previous(), "results": data})

    def _next(self) -> str | None:
        is_backward = bool(self.cursor and self.cursor.is_backward)
        return self._link(self.page[-1], False) if self.page and (self.has_more or is_backward) else None

    def _previous(self) -> str | None:
        if not self.page or self.cursor is None or (self.cursor.is_backward and not self.has_more):
            return None
        return self._link(self.page[0], True)

    def _link(self, row: Any, is_backward: bool) -> str:
        cursor = Cursor(tuple(_text(getattr(row, f.lstrip("-"))) for f in self.fields), is_backward)
        return replace_query_param(self.url, "cursor", cursor.encode())

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """For the OpenAPI document."""
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """For the OpenAPI document."""
        size = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE_SIZE}
        return [
            {"name": "cursor", "in": "query", "schema": {"type": "string"}, "description": "From a link."},
            {"name": "page_size", "in": "query", "schema": size, "description": "Most rows of a page."},
        ]


def beyond(fields: tuple[str, ...], values: tuple[str, ...]) -> Q:
    """The rows after `values` in the order of `fields`, in a form that an index on them serves."""
    (first, *rest), (value, *others) = fields, values
    name, lookup = first.lstrip("-"), "lt" if first.startswith("-") else "gt"
    strictly = Q(**{f"{name}__{lookup}": value})
    if not rest:
        return strictly
    # The redundant bound is what the index can use: PostgreSQL cannot derive it from the OR.
    return Q(**{f"{name}__{lookup}e": value}) & (strictly | beyond(tuple(rest), tuple(others)))


def _require_written_here(queryset: QuerySet[Any], name: str, value: str, text: str) -> None:
    """Raises `ValidationError` for a value that `_text` has not written.

    What Python reads and PostgreSQL does not (an offset of 20 hours) would otherwise be refused there, as a crash.
    """
    meta = queryset.model._meta
    field: Any = meta.pk if name == "pk" else meta.get_field(name)
    try:
        is_ours = _text(field.to_python(value)) == value
    except (InvalidValue, ValueError, OverflowError):
        is_ours = False
    if not is_ours:
        raise _bad_cursor(text)


def _text(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if hasattr(value, "astimezone") else str(value)


def _page_size(request: Request) -> int:
    text = request.query_params.get("page_size", str(PAGE_SIZE))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LARGEST_PAGE:
        raise ValidationError({"page_size": [message(f"a whole number from 1 to {LARGEST_PAGE}", text)]})
    return int(text)
