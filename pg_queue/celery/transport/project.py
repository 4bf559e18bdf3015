"""Django, set up where nobody has: kombu asks for a transport before an app's modules are loaded, or without any."""

from __future__ import annotations

import os

import django
from django.apps import apps
from django.conf import settings

from pg_queue.errors import Configuration

_MINIMAL = "PG_QUEUE_WITHOUT_PROJECT"
"""Set in the settings of a program that has none of its own."""


def set_up() -> None:
    """Load the settings and the apps; in a program without Django, settings that have nothing but the queue.

    Raises: Configuration, from within the loading of apps: a broker's connection needs their models.
    """
    if not settings.configured and not os.environ.get("DJANGO_SETTINGS_MODULE"):
        settings.configure(INSTALLED_APPS=["pg_queue"], DATABASES={}, USE_TZ=True, **{_MINIMAL: True})
    if apps.ready:
        return
    if apps.loading:
        raise Configuration(
            "broker_url: expected a connection to downbeat:// after Django's apps are loaded, got: one while they are. "
            "Publish in functions that are called later, not where a module is imported"
        )
    django.setup()


def has_project() -> bool:
    """Whether the settings are a project's own."""
    return not getattr(settings, _MINIMAL, False)
