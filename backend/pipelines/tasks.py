"""The tasks of the reference project. Each can be scheduled, and each can be a pipeline's step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import shared_task
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction

from backend.pipelines import csv_load, demo, execution, retention
from backend.pipelines.domain import RUN_TASK
from backend.pipelines.models import TimeZoneShift, TimeZoneSummary
from pg_queue.api import current_message, task
from scheduler.api import Firer, PgPeriodicSchedule

SQL = Path(__file__).parent / "sql"


class DemoFailure(Exception):
    """Raised on purpose."""


@task("echo")
def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what it was given."""
    return {"args": list(args), "kwargs": kwargs}


@task("noop")
def noop() -> None:
    """Do nothing."""


@task("demo.fail", max_attempts=3, retry_backoff_seconds=2)
def fail(message: str = "this task fails on purpose") -> None:
    """Raise, always: to see retries and a failed run."""
    raise DemoFailure(message)


@shared_task(name="demo.count_words")
def count_words(text: str) -> int:
    """A Celery task like any other: count the words of a text."""
    return len(text.split())


@task("demo.switch_in_beat")
def switch_in_beat() -> dict[str, bool | None]:
    """Switch the demo's own schedule in django-celery-beat's table on or off, as a project's code does.

    Neither `last_run_at` nor `date_changed` moves: after it is switched on, Beat sends at once what fell due meanwhile.
    Does nothing once the schedule is deleted, or not Beat's any more, nor for another organization than its own.
    """
    message = current_message()
    owned = {"organization_id": message.organization_id} if message else {}
    mirrors = PgPeriodicSchedule.objects.filter(pk=demo.identity(demo.BEATS_FAULT), firer=Firer.BEAT, **owned)
    rows = apps.get_model("django_celery_beat", "PeriodicTask").objects
    row = rows.filter(name=str(demo.identity(demo.BEATS_FAULT))).first() if mirrors.exists() else None
    if row is None:
        return {"enabled": None}
    row.enabled = not row.enabled
    row.save(update_fields=["enabled"])
    return {"enabled": row.enabled}


@task(RUN_TASK)
def run(pipeline_id: str) -> dict[str, Any]:
    """Run a pipeline's steps in order."""
    return execution.run_pipeline(pipeline_id)


@task("pipelines.load_csv")
def load_csv(path: str) -> dict[str, Any]:
    """Load a CSV file of the input folder into the table of time zone changes, by COPY."""
    return {"path": path, "rows": csv_load.load(path)}


@task("pipelines.transform")
def transform(previous: dict[str, Any] | None = None) -> dict[str, Any]:
    """Derive region, year and shift of the loaded changes, into a table of their own."""
    with transaction.atomic(), connection.cursor() as cursor:
        csv_load.empty(TimeZoneShift)
        cursor.execute(_statement("transform"))
        return {"loaded": (previous or {}).get("rows"), "transformed": cursor.rowcount}


@task("pipelines.aggregate")
def aggregate(since_year: int = 1970, previous: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write the summary of time zone changes per year and region."""
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            TimeZoneSummary.objects.all().delete()
        cursor.execute(_statement("aggregate"), {"since_year": since_year})
        return {**(previous or {}), "since_year": since_year, "summaries": cursor.rowcount}


def _statement(name: str) -> str:
    return (SQL / connection.vendor / f"{name}.sql").read_text()


@task("pipelines.clean_up")
def clean_up(keep_days: int | None = None) -> dict[str, int]:
    """Delete its organization's executions older than `keep_days` (by default the setting); end those left behind.

    Those left behind say `running`, and their worker died. Called by hand, outside a worker: of every organization.
    """
    days = settings.PIPELINES_EXECUTION_RETENTION_DAYS if keep_days is None else keep_days
    message = current_message()
    owner = message.organization_id if message else None
    return {"deleted": retention.delete_old(days, owner), "ended": retention.end_abandoned(owner)}
