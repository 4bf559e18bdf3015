"""Rows that belong to the engine: shown, never edited by hand."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from pg_queue.api import OfferedLookups


class ReadOnlyAdmin(OfferedLookups, admin.ModelAdmin):  # type: ignore[type-arg]
    """Adds, changes and deletes nothing, whatever the user's permissions."""

    change_form_template = "admin/scheduler/readonly_form.html"
    actions = None
    show_facets = admin.ShowFacets.NEVER  # they count whole tables

    class Media:
        css = {"all": ["scheduler/admin.css"]}

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False
