"""App configuration: names, and the checks that load with it."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class PgQueueConfig(AppConfig):
    """The queue app."""

    name = "pg_queue"
    verbose_name = "Queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, and SQLite's functions. No task is looked for: other apps may not be ready yet."""
        from pg_queue import checks  # noqa: F401 - importing it registers them
        from pg_queue.sqlite import add_functions_when_connected

        connection_created.connect(add_functions_when_connected, dispatch_uid="pg_queue.sqlite_functions")
