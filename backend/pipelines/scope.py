"""Organizations in the admin: whose rows a user sees there, and filters by organization."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from backend.pipelines import organizations
from scheduler.admin import filters as ledger


class OrganizationScope:
    """Mixin of a model admin: a user sees the rows of organizations that they are a member of; a superuser sees all.

    Lists, pages, actions, searches and the choices of filters all begin with this query set.
    """

    organization_field = "organization_id"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows that this user may see."""
        rows: QuerySet[Any] = super().get_queryset(request)  # type: ignore[misc]
        return organizations.visible_rows(request.user, rows, self.organization_field)


class SuperusersOnly:
    """Mixin of a model admin: rows that belong to no organization, and may hold something of all of them."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Superusers."""
        return self._is_for(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Superusers, as far as the page goes at all."""
        return self._is_for(request) and super().has_view_permission(request, obj)  # type: ignore[misc]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Superusers, as far as the page goes at all."""
        return self._is_for(request) and super().has_add_permission(request)  # type: ignore[misc]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Superusers, as far as the page goes at all."""
        return self._is_for(request) and super().has_change_permission(request, obj)  # type: ignore[misc]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Superusers, as far as the page goes at all."""
        return self._is_for(request) and super().has_delete_permission(request, obj)  # type: ignore[misc]

    def _is_for(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)  # type: ignore[union-attr]


class OrganizationFilter(admin.SimpleListFilter):
    """By organization, among those that the user may see."""

    title = "organization"
    parameter_name = "organization"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Those organizations."""
        return [(o.slug, o.name) for o in organizations.visible_to(request.user)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Rows of the chosen one."""
        return queryset.filter(organization_id=self.value()) if self.value() else queryset


class OneOrganizationFilter(OrganizationFilter, ledger.OrganizationFilter):
    """Always one, as the ledger's index wants it."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Runs of the chosen one."""
        return ledger.OrganizationFilter.queryset(self, request, queryset)
