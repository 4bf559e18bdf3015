"""App configuration: names, and the checks that load with it."""

import sys

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class PgQueueConfig(AppConfig):
    """The queue app."""

    name = "pg_queue"
    verbose_name = "Queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, SQLite's functions, and where Celery is loaded our broker URLs.

        No task is looked for: other apps may not be ready yet.
        """
        from pg_queue import checks  # noqa: F401 - importing it registers them
        from pg_queue.sqlite import add_functions_when_connected

        connection_created.connect(add_functions_when_connected, dispatch_uid="pg_queue.sqlite_functions")
        if {"celery", "kombu"} & sys.modules.keys():
            from pg_queue import celery  # noqa: F401 - importing it makes them known
