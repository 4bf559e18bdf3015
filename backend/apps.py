"""App configuration of the project itself."""

from django.apps import AppConfig


class BackendConfig(AppConfig):
    """The reference project."""

    name = "backend"
    verbose_name = "Downbeat"
