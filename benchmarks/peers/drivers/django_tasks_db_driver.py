"""django-tasks with its database backend: one `db_worker`, polling every second when it finds nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django
import psycopg
from common import serve

URL = os.environ["BENCH_DATABASE_URL"]
os.environ["DJANGO_SETTINGS_MODULE"] = "django_tasks_db_settings"
sys.path.insert(0, str(Path(__file__).parent))
django.setup()


class Client:
    """See `common.Client`."""

    def set_up(self) -> None:
        """By its migrations."""
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        self._session = psycopg.connect(URL, autocommit=True)

    def enqueue(self, sent_at: float) -> None:
        """By `enqueue`."""
        from django_tasks_db_tasks import noop

        noop.enqueue(sent_at)

    def enqueue_many(self, sent_at: float, count: int) -> None:
        """There is no call for many: one by one in a transaction."""
        from django.db import transaction

        with transaction.atomic():
            for _ in range(count):
                self.enqueue(sent_at)

    def pending(self) -> int:
        """Tasks stay in their table."""
        query = "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status <> 'SUCCESSFUL'"
        return self._session.execute(query).fetchone()[0]

    def clear(self) -> None:
        """The tasks."""
        self._session.execute("TRUNCATE django_tasks_database_dbtaskresult")
        self._session.execute("ANALYZE")


def work() -> None:
    """Its own command."""
    from django.core.management import call_command

    call_command("db_worker", verbosity=0, interval=1, startup_delay=False)


if __name__ == "__main__":  # a worker that starts processes imports this file in each
    serve(Client, work)
