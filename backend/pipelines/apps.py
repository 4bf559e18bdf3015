"""App configuration."""

from django.apps import AppConfig


class PipelinesConfig(AppConfig):
    """The pipelines app."""

    name = "backend.pipelines"
    label = "pipelines"
    verbose_name = "Pipelines"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the tasks, and let a deleted pipeline take its schedule along."""
        from backend.pipelines import signals, tasks  # noqa: F401
