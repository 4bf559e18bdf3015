"""Whose schedules a user may see, on the pages that sum them up."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

if TYPE_CHECKING:
    Pages = admin.ModelAdmin[Any]
else:
    Pages = object


class ScopedPages(Pages):
    """Mixin of the schedules' admin."""

    def organizations_of(self, request: HttpRequest) -> Collection[str] | None:
        """Those whose schedules the user may see; None: of all. For a project to override."""
        return None
