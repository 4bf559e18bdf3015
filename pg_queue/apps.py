"""App configuration: names, and the checks and tasks that load with it."""

from django.apps import AppConfig


class PgQueueConfig(AppConfig):
    """The queue app."""

    name = "pg_queue"
    verbose_name = "Queue"
    default_auto_field = "django.db.models.BigAutoField"
