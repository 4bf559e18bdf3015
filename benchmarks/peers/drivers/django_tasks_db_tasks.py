"""The task of `django_tasks_db_driver`."""

from common import note
from django_tasks import task


@task()
def noop(sent_at: float) -> None:
    """Take the time, where asked."""
    note(sent_at)
