"""Which of Django's model permissions each action asks for. Reading asks too."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

VERBS = {
    "create": "add",
    "update": "change",
    "partial_update": "change",
    "destroy": "delete",
    "pause": "change",
    "resume": "change",
    "run": "change",
    "activate": "change",
    "deactivate": "change",
    "promote": "change",
    "rollback": "change",
    "ramp": "change",
    "replay": "change",
}
"""Verb of the permission per action; every other action asks for `view`."""


class ActionPermissions(BasePermission):
    """Asks for `<app>.<verb>_<model>` of the view's `permission_model`, and of what `extra_permissions` adds."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether the caller is known and holds every permission that the action asks for."""
        user = request.user
        if not user or not user.is_authenticated:
            return False
        return user.has_perms(required(view))


def required(view: Any) -> list[str]:
    """Names of the permissions that `view.action` asks for."""
    if not getattr(view, "action", None) or not hasattr(view, "permission_model"):
        return []  # OPTIONS, and the page that lists the resources
    app, model = view.permission_model.split(".")
    extra: dict[str, list[str]] = getattr(view, "extra_permissions", {})
    return [f"{app}.{VERBS.get(view.action, 'view')}_{model}", *extra.get(view.action, [])]
