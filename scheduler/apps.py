"""App configuration: the checks, and the guard of Beat's rows after every migration."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class SchedulerConfig(AppConfig):
    """The scheduler app."""

    name = "scheduler"
    verbose_name = "Scheduler"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, and the receiver that installs the trigger on django-celery-beat's table."""
        from scheduler import checks  # noqa: F401  registers them
        from scheduler.beat.trigger import install_after_migrate

        post_migrate.connect(install_after_migrate, sender=self, dispatch_uid="scheduler.guard_beat")
