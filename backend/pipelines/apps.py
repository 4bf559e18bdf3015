"""App configuration."""

from django.apps import AppConfig


class PipelinesConfig(AppConfig):
    """The pipelines app."""

    name = "backend.pipelines"
    label = "pipelines"
    verbose_name = "Pipelines"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register tasks and duties, let a deleted pipeline take its schedule along, and keep SQLite's triggers."""
        from backend.pipelines import agreement, retention, signals, tasks  # noqa: F401
        from pg_queue.api import add_duties

        agreement.connect(self)
        add_duties(self.label, retention.retention_duties)
