"""What the commands about Celery Beat share."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from pg_queue.api import ExitCode, ServiceCommand
from scheduler import beat
from scheduler.errors import BeatUnavailable


class BeatCommand(ServiceCommand):
    """A command that needs PostgreSQL: where the schedules are kept in SQLite it says so, and exits with 2."""

    def handle(self, *args: Any, **options: Any) -> None:
        """See `ServiceCommand`."""
        try:
            beat.refuse_sqlite(f"manage.py {type(self).__module__.rpartition('.')[2]}")
        except BeatUnavailable as error:
            raise CommandError(str(error), returncode=ExitCode.USAGE) from error
        super().handle(*args, **options)
