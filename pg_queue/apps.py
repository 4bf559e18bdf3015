"""App configuration: names, and the checks that load with it."""

from django.apps import AppConfig


class PgQueueConfig(AppConfig):
    """The queue app."""

    name = "pg_queue"
    verbose_name = "Queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks. Tasks are not looked for here: other apps may not be ready yet."""
        from pg_queue import checks  # noqa: F401 - importing it registers them
