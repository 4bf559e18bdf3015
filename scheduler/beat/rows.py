"""Beat's `PeriodicTask` of a schedule: found by name, written, announced to Beat.

All of it joins the caller's transaction on the scheduler's own database. Rows are saved as models, so that the
project's own receivers see them, but with `no_changes` set: dcb would stamp `PeriodicTasks.last_update` from this
process's clock, which may lie behind the last stamp, and Beat would then not see the change.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import connections

from scheduler import beat, grid, recurrence
from scheduler.beat import reading
from scheduler.beat.expressions import (
    BeatCadence,
    BeatClocked,
    BeatCrontab,
    BeatInterval,
    BeatSolar,
    beat_clocked,
    beat_crontab,
    beat_interval,
    beat_solar,
)
from scheduler.beat.names import is_made_here
from scheduler.domain import Firer, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.models import PgPeriodicSchedule
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

_PAUSED_MARK = "downbeat-paused"
_KINDS = ("crontab", "interval", "solar", "clocked")
_TABLES = {
    BeatCrontab: ("crontab", "CrontabSchedule"),
    BeatInterval: ("interval", "IntervalSchedule"),
    BeatClocked: ("clocked", "ClockedSchedule"),
    BeatSolar: ("solar", "SolarSchedule"),
}
_NAMES = {"name": "pipeline_name"}
_CADENCE = frozenset({"kind", "expression", "timezone", "dialect", "run_limit"})
"""The fields of a schedule that together say when it occurs."""


def express(row: PgPeriodicSchedule) -> BeatCadence | None:
    """The row's expression as Beat can hold it with the same meaning; None: it cannot."""
    if row.kind == ScheduleKind.INTERVAL:
        return beat_interval(row.cron_string)
    if row.kind == ScheduleKind.CLOCKED:
        return beat_clocked(row.cron_string)
    if row.kind == ScheduleKind.SOLAR:
        return beat_solar(row.cron_string)
    return beat_crontab(row.cron_string, row.dialect)


def require_expressible(row: PgPeriodicSchedule) -> BeatCadence:
    """The same for a row that Beat is to fire.

    Raises:
        InvalidInput: field `expression` or `run_limit`: Beat cannot hold it. Says what to do.
    """
    if row.run_limit not in (None, 1):
        expected = "null or 1, because Celery Beat, which fires this schedule, counts no further (or firer 'pg')"
        raise InvalidInput(field="run_limit", expected=expected, got=row.run_limit)
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

    rows = PeriodicTask.objects.using(_alias()).select_related(*_KINDS).select_for_update(of=("self",))
    found: PeriodicTask | None = rows.filter(name=name).first()
    return found


def write(row: PgPeriodicSchedule, *, anchor: datetime | None, given: Collection[str] | None = None) -> None:
    """Make Beat's row say what `row` says, and have Beat see it; made where it is missing.

    `given` names the fields, as `create_schedule` does, that were set here: only those are written, and whether it is
    enabled; the rest stays as it is spelt there. None: everything that the row there does not say yet. `anchor` is the
    `last_run_at` from which Beat goes on; None: from where it is.

    Raises:
        InvalidInput: field `expression`: it is to be written, and Beat cannot hold it.
    """
    is_cadence_given = given is None or not _CADENCE.isdisjoint(given)
    _save(row, given, require_expressible(row) if is_cadence_given else None, anchor)


def keep_disabled(row: PgPeriodicSchedule, *, announces: bool = True) -> None:
    """Keep a disabled row in Beat's table for a schedule that PG fires; none where Beat cannot hold the expression.

    Who does so for many `announces` once, after them.

    Does nothing where dcb is not installed, nor for a row that means nothing, which a person may still want to pause:
    the trigger keeps Beat's row disabled as it is.
    """
    if not beat.is_installed() or not means_something(row):
        return
    expressed = express(row)
    if expressed is None:
        remove(row.beat_name)
    else:
        _save(row, None, expressed, None, announces=announces)


def means_something(row: PgPeriodicSchedule) -> bool:
    """Whether the row can be evaluated."""
    try:
        recurrence.validate(kind=row.kind, expression=row.cron_string, timezone=row.timezone, dialect=row.dialect)
    except InvalidInput:
        return False
    return True


def enable(name: str, anchor: datetime, *, is_enabled: bool) -> bool:
    """Enable Beat's row, or not, as it stands, to go on from `anchor`; False: there is none."""
    task = lock(name)
    if task is None:
        return False
    task.enabled, task.last_run_at, task.no_changes = is_enabled, anchor, True
    task.save(using=_alias(), update_fields=["enabled", "last_run_at", "date_changed"])
    announce()
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
        announce()
    return True


def is_paused_by_us(task: PeriodicTask) -> bool:
    """Whether the row is disabled because its schedule was paused here while Beat fired it."""
    return bool(_headers(task).get(_PAUSED_MARK))


def headers_of(task: PeriodicTask) -> dict[str, Any]:
    """The headers that Beat sends with the task, but for a mark of ours; empty also where they are no JSON object."""
    return {name: value for name, value in _headers(task).items() if name != _PAUSED_MARK}


def names(*, prefix: str = "") -> list[str]:
    """The names of all of Beat's rows that begin so."""
    from django_celery_beat.models import PeriodicTask

    found = PeriodicTask.objects.using(_alias()).filter(name__startswith=prefix)
    return list(found.order_by("name").values_list("name", flat=True))


def exists(name: str) -> bool:
    """Whether Beat has a row of this name."""
    from django_celery_beat.models import PeriodicTask

    return bool(PeriodicTask.objects.using(_alias()).filter(name=name).exists())


def name_of(key: int) -> str | None:
    """The name of Beat's row of this key; None: there is none."""
    from django_celery_beat.models import PeriodicTask

    name: str | None = PeriodicTask.objects.using(_alias()).filter(pk=key).values_list("name", flat=True).first()
    return name


def last_stamp() -> datetime | None:
    """When rows of Beat's were changed last, by the clock of whoever did; None: never."""
    from django_celery_beat.models import PeriodicTasks

    stamp: datetime | None = PeriodicTasks.objects.using(_alias()).values_list("last_update", flat=True).first()
    return stamp


def announce(*, after: datetime | None = None) -> None:
    """Have every Beat see that rows have changed, also one that has seen the stamp `after`."""
    with connections[_alias()].cursor() as cursor:
        if after is not None:
            cursor.execute(statements("beat_rows")["keep_stamp"], {"stamp": after})
        cursor.execute(statements("beat_rows")["announce_change"])


def _save(
    row: PgPeriodicSchedule,
    given: Collection[str] | None,
    expressed: BeatCadence | None,
    anchor: datetime | None,
    *,
    announces: bool = True,
) -> None:
    from django_celery_beat.models import PeriodicTask

    existing = lock(row.beat_name)
    task = existing or PeriodicTask(name=row.beat_name)
    was_enabled = existing is not None and existing.enabled
    outdated = reading.outdated(row, existing) if existing and given is None else None
    columns = _columns(row, given, outdated) | _switch(row, task)
    if expressed and (outdated is None or "cadence" in outdated):
        columns |= _cadence(row, expressed)
    if anchor is not None and columns["enabled"]:
        columns["last_run_at"] = anchor
        if columns.get("one_off", task.one_off):
            columns["total_run_count"] = 0  # else Beat takes it for one that has run
    for column, value in columns.items():
        setattr(task, column, value)
    task.no_changes = True
    task.save(using=_alias(), update_fields=[*columns, "date_changed"] if existing else None)
    if announces and (task.enabled or was_enabled):
        announce()


def _columns(row: PgPeriodicSchedule, given: Collection[str] | None, outdated: set[str] | None) -> dict[str, Any]:
    """dcb's columns of the fields that are given, by name, but for when it occurs and whether it is enabled.

    `outdated` names our columns that are to be written; None: all of them.
    """
    by_field: dict[str, dict[str, Any]] = {
        "name": {"description": row.pipeline_name} if is_made_here(row.beat_name) else {},
        "task": {"task": row.task},
        "args": {"args": json.dumps(row.args)},
        "kwargs": {"kwargs": json.dumps(row.kwargs)},
        "queue": {"queue": row.queue},
        "priority": {"priority": row.priority},
        "starts_at": {"start_time": row.starts_at},
        "ends_at": {"expires": row.ends_at},
    }
    if row.ends_at is not None or (given is None and is_made_here(row.beat_name)):
        by_field["ends_at"]["expire_seconds"] = None  # dcb refuses a row that has both
    return {
        column: value
        for field, columns in by_field.items()
        if (given is None or field in given) and (outdated is None or _NAMES.get(field, field) in outdated)
        for column, value in columns.items()
    }


def _switch(row: PgPeriodicSchedule, task: PeriodicTask) -> dict[str, Any]:
    is_returning = row.beat_from is not None and not grid.is_spent_by(row, row.beat_from)
    is_beats = row.firer == Firer.BEAT or is_returning
    return {"enabled": row.enabled and is_beats, "headers": _mark(task, is_paused=is_beats and not row.enabled)}


def _cadence(row: PgPeriodicSchedule, expressed: BeatCadence) -> dict[str, Any]:
    is_once = row.run_limit == 1 or isinstance(expressed, BeatClocked)
    columns: dict[str, Any] = {**dict.fromkeys(_KINDS), "one_off": is_once}
    kind, model_name = _TABLES[type(expressed)]
    zone = {"timezone": row.timezone} if isinstance(expressed, BeatCrontab) else {}
    return columns | {kind: shared_row(model_name, asdict(expressed) | zone)}


def _headers(task: PeriodicTask) -> dict[str, Any]:
    try:
        headers = json.loads(task.headers or "{}")
    except ValueError:
        return {}
    return headers if isinstance(headers, dict) else {}


def _mark(task: PeriodicTask, *, is_paused: bool) -> str:
    headers = headers_of(task)
    return json.dumps({**headers, _PAUSED_MARK: True} if is_paused else headers)


def shared_row(model_name: str, columns: dict[str, Any]) -> Any:
    """dcb's row of this cadence, the oldest where there are several; made where there is none.

    Such rows are shared by many tasks: they are never edited, and never deleted here (a task of another transaction may
    just be taking it).
    """
    from django_celery_beat import models

    rows = getattr(models, model_name).objects.using(_alias())
    found = rows.filter(**columns).order_by("pk")
    if (existing := found.first()) is not None:
        return existing
    with connections[_alias()].cursor() as cursor:
        cursor.execute(statements("beat_rows")["lock_cadence"], {"cadence": f"{model_name} {columns}"})
    if (existing := found.first()) is not None:
        return existing
    return rows.bulk_create([rows.model(**columns)])[0]  # bulk_create: without dcb's own stamp of a change


def _alias() -> str:
    return scheduler_settings().database
