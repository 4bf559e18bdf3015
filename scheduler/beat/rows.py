"""Beat's `PeriodicTask` of a schedule: found by name, written whole, announced to Beat.

All of it joins the caller's transaction on the scheduler's own database. Rows are saved as models, so that the
project's own receivers see them, but with `no_changes` set: dcb would stamp `PeriodicTasks.last_update` from this
process's clock, which may lie behind the last stamp, and Beat would then not see the change.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import connections

from scheduler import beat, recurrence
from scheduler.beat.expressions import BeatCrontab, BeatInterval, beat_crontab, beat_interval
from scheduler.domain import CronDialect, Firer, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.models import PgPeriodicSchedule
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

_PAUSED_MARK = "downbeat-paused"
_COLUMNS = (
    *("task", "args", "kwargs", "queue", "priority", "start_time", "expires"),
    *("description", "enabled", "headers", "date_changed"),
)
_KINDS = ("crontab", "interval", "solar", "clocked")


def express(row: PgPeriodicSchedule) -> BeatCrontab | BeatInterval | None:
    """The row's expression as Beat can hold it with the same meaning; None: it cannot."""
    if row.kind == ScheduleKind.INTERVAL:
        return beat_interval(row.cron_string)
    return beat_crontab(row.cron_string, row.dialect)


def require_expressible(row: PgPeriodicSchedule) -> BeatCrontab | BeatInterval:
    """The same for a row that Beat is to fire.

    Raises:
        InvalidInput: field `expression`: Beat cannot hold it. Says what to do.
    """
    if expressed := express(row):
        return expressed
    if row.kind == ScheduleKind.INTERVAL:
        expected = "an interval of whole seconds, because Celery Beat fires it (or firer 'pg')"
    else:
        expected = (
            "an expression that Celery Beat, which fires this schedule, can hold: restrict day-of-month or "
            "day-of-week, not both, without 'L' and '#'; or choose dialect 'celery' (both must match); or firer 'pg'"
        )
    raise InvalidInput(field="expression", expected=expected, got=row.cron_string)


def lock(name: str) -> PeriodicTask | None:
    """Beat's row of this name, held until the transaction ends; None: there is none."""
    from django_celery_beat.models import PeriodicTask

    found: PeriodicTask | None = PeriodicTask.objects.using(_alias()).select_for_update().filter(name=name).first()
    return found


def write(row: PgPeriodicSchedule, *, anchor: datetime | None) -> None:
    """Make Beat's row say what `row` says, and have Beat see it; made where it is missing.

    `anchor` is the `last_run_at` from which Beat goes on; None: from where it is. Raises `InvalidInput` where Beat
    cannot hold the expression.
    """
    _save(row, require_expressible(row), anchor)


def keep_disabled(row: PgPeriodicSchedule) -> None:
    """Keep a disabled row in Beat's table for a schedule that PG fires; none where Beat cannot hold the expression.

    Does nothing where dcb is not installed, nor for a row that means nothing, which a person may still want to pause:
    the trigger keeps Beat's row disabled as it is.
    """
    if not beat.is_installed() or not _means_something(row):
        return
    expressed = express(row)
    if expressed is None:
        remove(row.beat_name)
    else:
        _save(row, expressed, None)


def _means_something(row: PgPeriodicSchedule) -> bool:
    try:
        recurrence.validate(kind=row.kind, expression=row.cron_string, timezone=row.timezone, dialect=row.dialect)
    except InvalidInput:
        return False
    return True


def remove(name: str) -> bool:
    """Delete Beat's row and have Beat see it; False: there was none, or dcb is not installed."""
    task = lock(name) if beat.is_installed() else None
    if task is None:
        return False
    was_enabled = task.enabled
    task.no_changes = True
    task.delete(using=_alias())
    if was_enabled:
        _announce()
    return True


def is_paused_by_us(task: PeriodicTask) -> bool:
    """Whether the row is disabled because its schedule was paused here while Beat fired it."""
    return bool(_headers(task).get(_PAUSED_MARK))


def rebuild(task: PeriodicTask) -> PgPeriodicSchedule:
    """A schedule made from Beat's row alone, not stored: its organization is unknown, which is said by ''."""
    row = PgPeriodicSchedule(
        beat_name=task.name,
        organization_id="",
        pipeline_name=task.description or task.name,
        task=task.task,
        args=json.loads(task.args or "[]"),
        kwargs=json.loads(task.kwargs or "{}"),
        queue=task.queue or "default",
        priority=min(max(task.priority or 5, 1), 10),
        firer=Firer.BEAT.value,
        enabled=task.enabled,
        starts_at=task.start_time,
        ends_at=task.expires,
        dialect=CronDialect.CELERY.value,
        timezone="UTC",
        pause_note="",
        quarantine_error="",
        created_at=task.date_changed,
    )
    _read_cadence(row, task)
    return row


def _read_cadence(row: PgPeriodicSchedule, task: PeriodicTask) -> None:
    if task.interval is not None:
        row.kind = ScheduleKind.INTERVAL.value
        row.interval_seconds = float(task.interval.schedule.seconds)
        row.cron_string = f"PT{row.interval_seconds:.3f}".rstrip("0").rstrip(".") + "S"
    elif task.crontab is not None:
        columns = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        row.kind, row.timezone = ScheduleKind.CRONTAB.value, str(task.crontab.timezone)
        row.cron_string = " ".join(getattr(task.crontab, column).replace(" ", "") for column in columns)
    else:
        raise InvalidInput(field="kind", expected="a crontab or an interval in Beat's row", got=str(task.name))


def _save(row: PgPeriodicSchedule, expressed: BeatCrontab | BeatInterval, anchor: datetime | None) -> None:
    from django_celery_beat.models import PeriodicTask

    existing = lock(row.beat_name)
    task = existing or PeriodicTask(name=row.beat_name)
    was_enabled = existing is not None and existing.enabled
    _fill(task, row, expressed)
    written = [*_COLUMNS, *_KINDS]
    if anchor is not None and task.enabled:
        task.last_run_at = anchor
        written.append("last_run_at")
    task.no_changes = True
    task.save(using=_alias(), update_fields=written if existing else None)
    if task.enabled or was_enabled:
        _announce()


def _fill(task: PeriodicTask, row: PgPeriodicSchedule, expressed: BeatCrontab | BeatInterval) -> None:
    is_beats = row.firer == Firer.BEAT
    task.task, task.queue, task.priority = row.task, row.queue, row.priority
    task.args, task.kwargs = json.dumps(row.args), json.dumps(row.kwargs)
    task.start_time, task.expires = row.starts_at, row.ends_at
    task.description = row.pipeline_name
    task.enabled = row.enabled and is_beats
    task.headers = _mark(task, is_paused=is_beats and not row.enabled)
    for kind in _KINDS:
        setattr(task, kind, None)
    if isinstance(expressed, BeatInterval):
        task.interval_id = _shared_row("IntervalSchedule", asdict(expressed))
    else:
        task.crontab_id = _shared_row("CrontabSchedule", {**asdict(expressed), "timezone": row.timezone})


def _headers(task: PeriodicTask) -> dict[str, Any]:
    try:
        headers = json.loads(task.headers or "{}")
    except ValueError:
        return {}
    return headers if isinstance(headers, dict) else {}


def _mark(task: PeriodicTask, *, is_paused: bool) -> str:
    headers = {name: value for name, value in _headers(task).items() if name != _PAUSED_MARK}
    return json.dumps({**headers, _PAUSED_MARK: True} if is_paused else headers)


def _shared_row(model_name: str, columns: dict[str, Any]) -> int:
    """The id of dcb's row of this cadence, the oldest where there are several; made where there is none.

    Such rows are shared by many tasks: they are never edited, and never deleted here (a task of another transaction may
    just be taking it).
    """
    from django_celery_beat import models

    rows = getattr(models, model_name).objects.using(_alias())
    found = rows.filter(**columns).order_by("pk").values_list("pk", flat=True)
    if (existing := found.first()) is not None:
        return int(existing)
    with connections[_alias()].cursor() as cursor:
        cursor.execute(statements("beat_rows")["lock_cadence"], {"cadence": f"{model_name} {columns}"})
    if (existing := found.first()) is not None:
        return int(existing)
    return int(rows.bulk_create([rows.model(**columns)])[0].pk)  # bulk_create: without dcb's own stamp of a change


def _announce() -> None:
    with connections[_alias()].cursor() as cursor:
        cursor.execute(statements("beat_rows")["announce_change"])


def _alias() -> str:
    return scheduler_settings().database
