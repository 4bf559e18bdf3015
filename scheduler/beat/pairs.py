"""Schedules and their rows in Beat, read together, and what of the two differs in meaning.

Both rows and their fingerprint come from one statement: two that are found to agree did so at one instant.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import UUID

from django.db import connections, models, transaction

from scheduler.beat import links, reading, rows
from scheduler.beat.names import CANARY_PREFIX
from scheduler.models import PgPeriodicSchedule
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

ORPHAN_GRACE_SECONDS = 5
"""How long Beat's row must have been gone: one that is deleted and made anew keeps its schedule."""
_KINDS = {
    "crontab": "CrontabSchedule",
    "interval": "IntervalSchedule",
    "clocked": "ClockedSchedule",
    "solar": "SolarSchedule",
}
_Differences = dict[str, list[Any]]
_Row = TypeVar("_Row", bound=models.Model)


class Pair(NamedTuple):
    """A schedule and its row in Beat, as they were at one instant. The fields are the columns of `compared`."""

    schedule_id: UUID
    beat_name: str
    organization_id: str
    firer: str
    fingerprint: str
    ours: str
    """This and those of Beat's tables: the row as JSON; None: there is none."""
    beats: str | None
    crontab: str | None
    interval: str | None
    clocked: str | None
    solar: str | None
    renamed_to: str | None
    """What Beat's row is called now, where none has the name that the schedule goes by."""
    gone_since: datetime | None
    """When Beat's row was found to be gone; None: it is there, or was missed only just now."""
    has_failed_write: bool
    """Whether a write of the mirror failed and was not repaired."""

    def row(self) -> PgPeriodicSchedule:
        """Our row. Raises whatever is wrong with it."""
        return _restore(PgPeriodicSchedule, self.ours)

    def task(self) -> PeriodicTask | None:
        """Beat's row; None: there is none. Raises whatever is wrong with it."""
        from django_celery_beat import models as beats

        if self.beats is None:
            return None
        task = _restore(beats.PeriodicTask, self.beats)
        for kind, model_name in _KINDS.items():
            if (times := getattr(self, kind)) is not None:
                setattr(task, kind, _restore(getattr(beats, model_name), times))
        return task


def find_suspects(schedule_ids: Sequence[UUID] | None = None, *, is_alone: bool = False) -> list[UUID]:
    """The schedules, among these or all, that may differ from Beat's rows, by one statement.

    With `is_alone` none while another process looks. Opens one transaction.
    """
    wanted = None if schedule_ids is None else list(schedule_ids)
    parameters: dict[str, Any] = {"ids": wanted, "canary": CANARY_PREFIX}
    with transaction.atomic(using=_alias()), connections[_alias()].cursor() as cursor:
        if is_alone:
            cursor.execute(statements("beat_links")["one_at_a_time"])
            if not cursor.fetchone()[0]:
                return []
        cursor.execute(statements("beat_links")["suspects"].format(pairs=links.pairs()), parameters)
        return [schedule_id for (schedule_id,) in cursor.fetchall()]


def read(schedule_ids: Sequence[UUID]) -> dict[UUID, Pair]:
    """Those of the schedules that are there and are not being handed over, by id."""
    parameters: dict[str, Any] = {"ids": list(schedule_ids), "grace_seconds": ORPHAN_GRACE_SECONDS}
    with connections[_alias()].cursor() as cursor:
        cursor.execute(statements("beat_links")["compared"].format(pairs=links.pairs()), parameters)
        return {pair.schedule_id: pair for pair in map(Pair._make, cursor.fetchall())}


def compare(row: PgPeriodicSchedule, task: PeriodicTask) -> _Differences:
    """What the mirror says otherwise than Beat's row: by our column, what it says and what it should say.

    Raises:
        InvalidInput: Beat's row says what no schedule here can hold.
    """
    reading.check(task)
    differences = reading.differences(row, task)
    return {column: [_plain(getattr(row, column)), _plain(said)] for column, said in differences.items()}


def compare_disabled(row: PgPeriodicSchedule, task: PeriodicTask | None) -> _Differences:
    """What Beat's row of a schedule that PG fires says otherwise: by our column, what it says and what it should say.

    Empty for a schedule that means nothing: the trigger keeps Beat's row disabled as it is.
    """
    if not rows.means_something(row):
        return {}
    is_kept = rows.express(row) is not None
    if task is None or not is_kept:
        is_there = task is not None
        return {"row": [is_there, is_kept]} if is_there != is_kept else {}
    told = copy.copy(row)
    reading.follow(told, task)
    outdated = ("cron_string" if column == "cadence" else column for column in reading.outdated(row, task))
    found = {column: [_plain(getattr(told, column)), _plain(getattr(row, column))] for column in sorted(outdated)}
    return found | ({"enabled": [True, False]} if task.enabled else {})


def _restore(model: type[_Row], text: str) -> _Row:
    columns = json.loads(text)
    fields = model._meta.concrete_fields
    return model(**{field.attname: field.to_python(columns[field.column]) for field in fields})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | float | list | dict) else str(value)


def _alias() -> str:
    return scheduler_settings().database
