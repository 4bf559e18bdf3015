"""The admin site of the service: what people come for stands first."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest

FIRST = ("scheduler", "pipelines", "pg_queue")


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
