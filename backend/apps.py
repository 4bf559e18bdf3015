"""App configuration of the project itself."""

from django.apps import AppConfig


class BackendConfig(AppConfig):
    """The reference project."""

    name = "backend"
    verbose_name = "Downbeat"

    def ready(self) -> None:
        """Register the project's system checks."""
        from backend import checks  # noqa: F401
