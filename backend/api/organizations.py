"""Whose rows a request may see, and which organization it means.

A superuser sees every organization, anyone else those of which they are a member. A list is of one organization: that
of `?organization=`, by default `default`. A row is found by its id in every organization that the caller may see; in
any other it does not exist (404). To name an organization that one may not see, or that does not exist, is refused
(403, the same answer for both).
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request

from backend.api.refusals import message
from backend.pipelines.models import DEFAULT_ORGANIZATION
from backend.pipelines.organizations import visible_rows, visible_slugs, visible_to


def named_in_query(request: Request) -> str | None:
    """The organization that the query names, checked; None when it names none."""
    slug = request.query_params.get("organization")
    return _permitted(request, slug) if slug else None


def of_list(request: Request) -> str:
    """Slug of the organization whose rows a list shows: of the query, else `default`. Raises `PermissionDenied`."""
    return named_in_query(request) or _permitted(request, DEFAULT_ORGANIZATION)


def meant_by(request: Request) -> str:
    """Slug of the organization that the request means: of the body, of the query, else `default`.

    Raises:
        PermissionDenied: it does not exist, or the caller may not see it.
        ValidationError: body and query name different ones.
    """
    body = request.data.get("organization") if hasattr(request.data, "get") else None
    query = request.query_params.get("organization")
    if body and query and body != query:
        raise ValidationError({"organization": [message(f"the same as in the query ({query})", body)]})
    named = body if body is not None else query
    return _permitted(request, DEFAULT_ORGANIZATION if named in (None, "") else str(named))


def asked_for(request: Request, slug: str | None) -> list[str] | None:
    """The organizations that a request without a default acts on: `slug`'s, else all that the caller may see.

    None: all there are. Raises `PermissionDenied`, as `meant_by` does.
    """
    return visible_slugs(request.user) if slug is None else [_permitted(request, slug)]


def _permitted(request: Request, slug: str) -> str:
    # PostgreSQL refuses to compare with a NUL; no slug has one.
    if "\0" in slug or not visible_to(request.user).filter(slug=slug).exists():
        raise PermissionDenied(message("organization: one that you are a member of", slug))
    return slug


class OrganizationScope:
    """Mixin of a view set: restricts its rows to what the caller may see."""

    request: Request
    action: str

    def get_queryset(self) -> QuerySet[Any]:
        """The view's rows: for a list of the meant organization, otherwise of all that the caller may see."""
        rows: QuerySet[Any] = super().get_queryset()  # type: ignore[misc]
        if getattr(self, "swagger_fake_view", False):
            return rows.none()
        if self.action == "list":
            return rows.filter(organization_id=of_list(self.request))
        return self.visible(rows)

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """`rows` without those of organizations that the caller may not see, or that the query excludes."""
        slug = named_in_query(self.request)
        if slug is not None:
            return rows.filter(organization_id=slug)
        return visible_rows(self.request.user, rows)
