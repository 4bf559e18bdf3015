"""Its tasks."""

from celery import shared_task


@shared_task(name="proj.report")
def report() -> str:
    """Writes a report."""
    return "written"
