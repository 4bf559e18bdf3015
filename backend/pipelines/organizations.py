"""Which organizations a user may see."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from backend.pipelines.models import Organization


def visible_to(user: Any) -> QuerySet[Organization]:
    """The organizations that `user` may see: all for a superuser, for anyone else those of which they are a member."""
    organizations = Organization.objects.all()
    return organizations if user.is_superuser else organizations.filter(memberships__user_id=user.pk)
