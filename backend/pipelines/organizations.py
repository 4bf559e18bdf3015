"""Which organizations a user may see, and which rows."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from backend.pipelines.models import Organization


def visible_to(user: Any) -> QuerySet[Organization]:
    """The organizations that `user` may see: all for a superuser, for anyone else those of which they are a member."""
    organizations = Organization.objects.all()
    return organizations if user.is_superuser else organizations.filter(memberships__user_id=user.pk)


def visible_rows(user: Any, rows: QuerySet[Any], field: str = "organization_id") -> QuerySet[Any]:
    """Of `rows` those that `user` may see: `field` holds the slug of their organization."""
    return rows if user.is_superuser else rows.filter(**{f"{field}__in": visible_to(user).values("slug")})


def visible_slugs(user: Any) -> list[str] | None:
    """The slugs of the organizations that `user` may see; None: of all."""
    return None if user.is_superuser else list(visible_to(user).values_list("slug", flat=True))
