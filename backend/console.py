"""The admin site of the service: what people come for stands first."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest

FIRST = ("scheduler", "pipelines", "pg_queue")
UNSCOPED = {"django_celery_beat"}
"""Apps whose tables hold something of every organization, and do not know it."""


class Console(AdminSite):
    """Django's admin under our name."""

    site_header = site_title = "Downbeat"
    index_title = "Schedules, pipelines and runs"
    site_url = None
    enable_nav_sidebar = False

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Scheduler, pipelines and queue before the rest."""
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: FIRST.index(app["app_label"]) if app["app_label"] in FIRST else len(FIRST))


class ConsoleConfig(AdminConfig):
    """Takes the place of `django.contrib.admin` in INSTALLED_APPS."""

    default_site = "backend.console.Console"

    def ready(self) -> None:
        """Register every app's pages; then keep those of `UNSCOPED` apps for superusers."""
        super().ready()
        from backend.pipelines.scope import SuperusersOnly

        for model in [model for model in admin.site._registry if model._meta.app_label in UNSCOPED]:
            pages = type(admin.site.get_model_admin(model))
            admin.site.unregister(model)
            admin.site.register(model, type(pages.__name__, (SuperusersOnly, pages), {}))
