"""App configuration: the checks, the reaper's duties here, and what watches Celery Beat and guards its rows."""

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class SchedulerConfig(AppConfig):
    """The scheduler app."""

    name = "scheduler"
    verbose_name = "Scheduler"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, the duties, and the receivers that guard, follow and observe Celery Beat."""
        from pg_queue.api import Follower, add_duties, follow
        from scheduler import checks as _checks  # noqa: F401  registers them
        from scheduler import receivers
        from scheduler.beat.trigger import install_after_migrate
        from scheduler.cutover.duties import cutover_duties
        from scheduler.dialect import is_sqlite
        from scheduler.domain import REPORT_TO
        from scheduler.ledger import beat_duties, ledger_duties, note_relayed, write_outcomes
        from scheduler.policies import policy_duties
        from scheduler.reconciliation import reconciliation_duties

        own, beats = (ledger_duties, policy_duties), (beat_duties, cutover_duties, reconciliation_duties)
        add_duties(self.label, lambda: [duty for duties in (own if is_sqlite() else own + beats) for duty in duties()])
        follow(REPORT_TO, Follower(on_taken=note_relayed, on_outcomes=write_outcomes))
        post_migrate.connect(install_after_migrate, sender=self, dispatch_uid="scheduler.guard_beat")
        receivers.connect()
        if apps.is_installed("django_celery_beat"):  # and with it Celery, which it has imported
            from scheduler.beat import observer

            observer.connect()
