"""What Beat's `PeriodicTask` says of a schedule, in our words.

While Beat fires a schedule its row is the primary one, and people also edit it in dcb's own admin: what it says counts,
what our row says is only its mirror. Where both mean the same, our spelling is kept, which is richer (macros, names,
the `unix` dialect). What a schedule here cannot hold (an interval of half a second, arguments that are no JSON, notes
of many lines where our name would be) is not read: it stays as it is on both sides until it is edited here.
"""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any

from scheduler import recurrence
from scheduler.beat.evaluation import BeatSchedule
from scheduler.beat.expressions import (
    BeatCadence,
    BeatClocked,
    BeatCrontab,
    BeatInterval,
    BeatSolar,
    beat_crontab,
    clocked_text,
    crontab_text,
    interval_text,
    is_same_crontab,
    solar_text,
)
from scheduler.beat.names import is_made_here
from scheduler.domain import CronDialect, Firer, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.models import PgPeriodicSchedule

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

_JSON = {"args": list, "kwargs": dict}
_CRONTAB = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
_PLAIN = {"pipeline_name", "task", "args", "kwargs", "queue", "priority", "starts_at", "ends_at"}
"""Columns that a schedule and Beat's row both have, but for its cadence and whether it is enabled."""
_LONGEST_NAME = 255
_LONGEST_QUEUE = 128


def follow(row: PgPeriodicSchedule, task: PeriodicTask) -> None:
    """Set on the row what Beat's row says otherwise, in meaning, and whether that is enabled.

    Nothing is stored. `next_run_at` and the marks of a pause are left to the caller.
    """
    for column, said in differences(row, task).items():
        setattr(row, column, said)


def differences(row: PgPeriodicSchedule, task: PeriodicTask) -> dict[str, Any]:
    """What Beat's row says otherwise than ours, in meaning, by our columns. Empty: both say the same."""
    said = _read(task) | _read_cadence_unless_same(row, task)
    return {column: value for column, value in said.items() if not is_same(getattr(row, column), value)}


def outdated(row: PgPeriodicSchedule, task: PeriodicTask) -> set[str]:
    """What Beat's row does not say as ours does, in meaning: our columns, and `cadence` for what says when it occurs.

    Whether it is enabled is not looked at. For a row that Beat is to hold: raises `InvalidInput` where ours means
    nothing.
    """
    said = _read(task)
    is_ours = is_made_here(task.name)
    columns = _PLAIN if is_ours else _PLAIN - {"pipeline_name"}
    found = {column for column in columns if column not in said or not is_same(getattr(row, column), said[column])}
    if is_ours and task.expire_seconds is not None:
        found.add("ends_at")
    return found if _says_when(row, task) else found | {"cadence"}


def check(task: PeriodicTask) -> None:
    """Refuse a row that says what no schedule here can hold: such a row is followed in its other columns only.

    Raises:
        InvalidInput: field `kind`, `expression`, `timezone`, `queue`, `headers`, `args` or `kwargs`.
    """
    _read_cadence(task)
    if len(task.queue or "") > _LONGEST_QUEUE:
        raise InvalidInput(field="queue", expected=f"a name of at most {_LONGEST_QUEUE} characters", got=task.queue)
    if not _is_object(task.headers or "{}"):
        expected = "JSON of an object, because Celery Beat leaves a row out, or ends, where it is none"
        raise InvalidInput(field="headers", expected=expected, got=task.headers)
    for column, form in _JSON.items():
        written = getattr(task, column)
        if column not in _read_payload(task):
            expected = f"JSON of {'a list' if form is list else 'an object'}"
            raise InvalidInput(field=column, expected=expected, got=written)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def beat_schedule(task: PeriodicTask) -> BeatSchedule:
    """When Beat's row is due, as Beat itself holds it.

    Raises:
        InvalidInput: field `kind`: the row has no times.
    """
    zone = str(task.crontab.timezone) if task.crontab is not None else "UTC"
    return BeatSchedule(times=_times(task), timezone=zone)


def follow_cadence(row: PgPeriodicSchedule, task: PeriodicTask) -> None:
    """The same, for what says when it occurs alone."""
    for column, said in _read_cadence_unless_same(row, task).items():
        setattr(row, column, said)


def rebuild(task: PeriodicTask) -> PgPeriodicSchedule:
    """A schedule made from Beat's row alone, not stored: its organization is unknown, which is said by ''.

    Raises:
        InvalidInput: field `kind` or `expression`: Beat's row is due at times that no schedule here can hold.
    """
    row = PgPeriodicSchedule(
        beat_name=task.name,
        organization_id="",
        pipeline_name=task.name,
        firer=Firer.BEAT.value,
        dialect=CronDialect.CELERY.value,
        timezone="UTC",
        pause_note="",
        quarantine_error="",
        created_at=task.date_changed,
    )
    for column, said in (_read(task) | _read_cadence(task)).items():
        setattr(row, column, said)
    return row


def _read(task: PeriodicTask) -> dict[str, Any]:
    """Columns of a schedule, but for its cadence."""
    said: dict[str, Any] = {
        "task": task.task,
        "queue": task.queue or "default",
        "priority": 5 if task.priority is None else min(max(task.priority, 1), 10),
        "enabled": task.enabled,
        "starts_at": task.start_time,
        "ends_at": task.expires,
    }
    if task.clocked is None:  # which is a one-off always, there and here
        said["run_limit"] = 1 if task.one_off else None
    return said | _read_payload(task) | _read_name(task)


def _read_payload(task: PeriodicTask) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for column, form in _JSON.items():
        try:
            value = json.loads(getattr(task, column) or json.dumps(form()))
        except (ValueError, RecursionError):
            continue
        if isinstance(value, form):
            read[column] = value
    return read


def _read_name(task: PeriodicTask) -> dict[str, Any]:
    if not is_made_here(task.name):  # an imported one is known by Beat's name of it
        return {}
    name = (task.description or "").strip()
    is_name = 0 < len(name) <= _LONGEST_NAME and all(unicodedata.category(character) != "Cc" for character in name)
    return {"pipeline_name": name} if is_name else {}


def _read_cadence(task: PeriodicTask) -> dict[str, Any]:
    """Raises `InvalidInput` for what no schedule here can hold."""
    times = _times(task)
    if isinstance(times, BeatInterval):
        text = interval_text(times)
        return {
            "kind": ScheduleKind.INTERVAL.value,
            "cron_string": text,
            "interval_seconds": recurrence.interval_seconds(text),
        }
    if isinstance(times, BeatClocked):
        return {"kind": ScheduleKind.CLOCKED.value, "cron_string": clocked_text(times), "interval_seconds": None}
    if isinstance(times, BeatSolar):
        return _read_solar(times)
    return _read_crontab(times, str(task.crontab.timezone))


def _read_crontab(times: BeatCrontab, timezone: str) -> dict[str, Any]:
    cadence = {
        "kind": ScheduleKind.CRONTAB.value,
        "cron_string": crontab_text(times),
        "timezone": timezone,
        "dialect": CronDialect.CELERY.value,
    }
    recurrence.validate(
        kind=cadence["kind"],
        expression=cadence["cron_string"],
        timezone=cadence["timezone"],
        dialect=cadence["dialect"],
    )
    return cadence | {"interval_seconds": None}


def _read_solar(times: BeatSolar) -> dict[str, Any]:
    text = solar_text(times)
    recurrence.validate(kind=ScheduleKind.SOLAR, expression=text, timezone="UTC")
    return {"kind": ScheduleKind.SOLAR.value, "cron_string": text, "interval_seconds": None}


def _read_cadence_unless_same(row: PgPeriodicSchedule, task: PeriodicTask) -> dict[str, Any]:
    try:
        said = _read_cadence(task)
    except InvalidInput:
        return {}
    if not _is_same_cadence(row, said, task):
        return said
    return {"timezone": said["timezone"]} if row.kind == ScheduleKind.CRONTAB else {}


def _says_when(row: PgPeriodicSchedule, task: PeriodicTask) -> bool:
    """Whether Beat's row is due when ours occurs, and as often."""
    if task.one_off != (row.run_limit == 1 or row.kind == ScheduleKind.CLOCKED):
        return False
    recurrence.validate(kind=row.kind, expression=row.cron_string, timezone=row.timezone, dialect=row.dialect)
    try:
        said = _read_cadence(task)
    except InvalidInput:
        return False
    is_same_zone = row.kind != ScheduleKind.CRONTAB or row.timezone == said.get("timezone")
    return is_same_zone and _is_same_cadence(row, said, task)


def _is_same_cadence(row: PgPeriodicSchedule, said: dict[str, Any], task: PeriodicTask) -> bool:
    """Whether both occur together, but for the time zone."""
    if row.kind != said["kind"]:
        return False
    try:
        if row.kind == ScheduleKind.INTERVAL:
            return recurrence.period(row.cron_string) == recurrence.period(said["cron_string"])
        if row.kind != ScheduleKind.CRONTAB:
            return bool(recurrence.normalise(row.kind, row.cron_string, row.dialect) == said["cron_string"])
        ours = beat_crontab(row.cron_string, row.dialect)
        return ours is not None and is_same_crontab(ours, _crontab(task))
    except InvalidInput:  # ours means nothing
        return False


def _times(task: PeriodicTask) -> BeatCadence:
    """As dcb holds it. Raises `InvalidInput` for a row without times."""
    if task.interval is not None:
        return BeatInterval(every=task.interval.every, period=task.interval.period)
    if task.crontab is not None:
        return _crontab(task)
    if task.solar is not None:
        return BeatSolar(event=task.solar.event, latitude=task.solar.latitude, longitude=task.solar.longitude)
    if task.clocked is not None:
        return BeatClocked(clocked_time=task.clocked.clocked_time)
    expected = "a crontab, an interval, a clocked or a solar time in Beat's row"
    raise InvalidInput(field="kind", expected=expected, got=str(task.name))


def _crontab(task: PeriodicTask) -> BeatCrontab:
    return BeatCrontab(**{column: getattr(task.crontab, column) for column in _CRONTAB})


def is_same(ours: Any, said: Any) -> bool:
    """Whether two values of a column are equal: as JSON where they are that, because to Python `[1]` is `[True]`."""
    if isinstance(said, list | dict):
        return json.dumps(ours, sort_keys=True) == json.dumps(said, sort_keys=True)
    return bool(ours == said)
