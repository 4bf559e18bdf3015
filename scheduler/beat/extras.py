"""What Beat's row holds and a schedule here cannot: kept beside it, and what becomes of it once PG fires the schedule.

Until then nothing of it matters: Beat sends as it always did.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pg_queue import api as queue
from scheduler.beat import rows
from scheduler.beat.expressions import BeatCrontab, crontab_text
from scheduler.beat.reading import beat_schedule
from scheduler.domain import ScheduleKind
from scheduler.models import PgPeriodicSchedule
from scheduler.recurrence.kinds import pattern_of

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

CLEAN_UP = "celery.backend_cleanup"
"""Celery's own task, whose row Beat makes by itself where its results have to be cleaned up."""
_EVERY_MINUTE = (1 << 60) - 1
_EVERY_HOUR = (1 << 24) - 1
_TYPE_MARK = "__type__"
"""In JSON of kombu's: an object that Celery turns into a date, a UUID or the like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something to know about a schedule that was imported."""

    about: str
    """dcb's column, or `crontab`."""
    text: str


def extras_of(task: PeriodicTask) -> dict[str, Any]:
    """What a schedule here cannot hold, by dcb's column; empty: it holds everything."""
    found: dict[str, Any] = {
        "exchange": task.exchange,
        "routing_key": task.routing_key,
        "headers": rows.headers_of(task),
        "priority": task.priority,
        "expire_seconds": task.expire_seconds,
    }
    return {column: value for column, value in found.items() if value not in (None, "", {})}


def remarks_on(row: PgPeriodicSchedule, task: PeriodicTask) -> list[Remark]:
    """What is different once PG fires the schedule, and what looks like a mistake."""
    remarks = [
        *_remark_routing(row, extras_of(task)),
        *_remark_delivery(row, extras_of(task)),
        *_remark_task(row),
        *_remark_payload(row),
    ]
    if (mistake := _mistake(task)) is not None:
        remarks.append(mistake)
    return remarks


def _remark_routing(row: PgPeriodicSchedule, extras: dict[str, Any]) -> list[Remark]:
    remarks = [
        Remark(
            about=column,
            text=f"{column} {extras[column]!r} means nothing after a cutover: the message goes to queue {row.queue!r}",
        )
        for column in ("exchange", "routing_key")
        if column in extras
    ]
    try:
        queue.check_queue(row.queue)
    except queue.InvalidMessage as error:
        text = f"no queue here can be named {row.queue!r} (expected {error.expected}): choose another before a cutover"
        remarks.append(Remark(about="queue", text=text))
    return remarks


def _remark_delivery(row: PgPeriodicSchedule, extras: dict[str, Any]) -> list[Remark]:
    remarks = []
    if "headers" in extras:
        text = f"the headers {json.dumps(extras['headers'])} are not passed on after a cutover"
        remarks.append(Remark(about="headers", text=text))
    if "expire_seconds" in extras:
        text = (
            f"Celery drops a message that is older than {extras['expire_seconds']} s; after a cutover a worker runs it "
            "however late it comes to it"
        )
        remarks.append(Remark(about="expire_seconds", text=text))
    if "priority" in extras:
        text = (
            f"priority {extras['priority']} becomes {row.priority} after a cutover, where 10 is first and 1 last; "
            "Celery leaves its meaning to the broker (RabbitMQ: larger first, Redis: smaller first)"
        )
        remarks.append(Remark(about="priority", text=text))
    return remarks


def _remark_task(row: PgPeriodicSchedule) -> list[Remark]:
    if row.task == CLEAN_UP:
        text = (
            "Celery's own clean-up of its result backend, whose row Celery Beat makes again at each start: leave it "
            "with Celery Beat for as long as Celery keeps results"
        )
        return [Remark(about="task", text=text)]
    try:
        queue.get_task(row.task)
    except queue.UnknownTask:
        text = f"the task {row.task!r} is not registered in this project: after a cutover its runs would fail"
        return [Remark(about="task", text=text)]
    return []


def _remark_payload(row: PgPeriodicSchedule) -> list[Remark]:
    return [
        Remark(
            about=column,
            text=f"an object with {_TYPE_MARK!r} reaches the task as that type from Celery (a date, a UUID); after a "
            "cutover as the plain object",
        )
        for column in ("args", "kwargs")
        if f'"{_TYPE_MARK}":' in json.dumps(getattr(row, column))
    ]


def _mistake(task: PeriodicTask) -> Remark | None:
    """Every minute of some hours, or of some days: mostly a minute that was forgotten."""
    times = beat_schedule(task).times
    if not isinstance(times, BeatCrontab):
        return None
    pattern = pattern_of(crontab_text(times), "celery")
    if pattern.minutes != _EVERY_MINUTE or (pattern.hours == _EVERY_HOUR and pattern.days.is_every_day):
        return None
    of = "every hour of its days" if pattern.hours == _EVERY_HOUR else f"the hours {times.hour}"
    text = f"fires every minute of {of}: its minute is '*'; if once was meant, the minute was forgotten"
    return Remark(about=ScheduleKind.CRONTAB.value, text=text)
