"""App configuration: the table of results, for any database that Django knows."""

from django.apps import AppConfig


class PgQueueResultsConfig(AppConfig):
    """Results of messages. Needed where `PG_QUEUE["RESULTS"]["BACKEND"]` is `database`."""

    name = "pg_queue.results"
    label = "pg_queue_results"
    verbose_name = "Results"
    default_auto_field = "django.db.models.BigAutoField"
