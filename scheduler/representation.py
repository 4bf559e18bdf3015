"""Schedules and runs as plain values under their public names, and as lines of text, for commands and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from scheduler import api
from scheduler.explanation import Explanation
from scheduler.forecast import Forecast, Herd
from scheduler.models import BeatCatch, Handover, PgPeriodicSchedule, ScheduleChange
from scheduler.preview import Preview, PreviewRow
from scheduler.runs import RunView

_RENAMED = {
    "pipeline_id": "id",
    "pipeline_name": "name",
    "organization_id": "organization",
    "cron_string": "expression",
}
_RUN_RENAMED = {"schedule_id": "schedule", "organization_id": "organization"}


def schedule_fields(row: PgPeriodicSchedule) -> dict[str, Any]:
    """Every field of a schedule under its public name, and its `state`; values are JSON, instants ISO 8601 in UTC.

    `next_run_at` is the one that people are to see, see `scheduler.api.next_run_at`. `handover` is what
    `under_way_fields` says, or null.
    """
    return schedules_fields([row])[0]


def schedules_fields(rows: Sequence[PgPeriodicSchedule]) -> list[dict[str, Any]]:
    """What `schedule_fields` says of each."""
    under_way = api.under_way(rows)
    return [_schedule_fields(row, under_way.get(row.pk)) for row in rows]


def _schedule_fields(row: PgPeriodicSchedule, under_way: api.UnderWay | None) -> dict[str, Any]:
    columns = [field.attname for field in row._meta.concrete_fields]
    return {
        **{_RENAMED.get(column, column): _plain(getattr(row, column)) for column in columns},
        "next_run_at": _plain(api.next_run_at(row)),
        "state": row.state.value,
        "handover": under_way and under_way_fields(under_way),
    }


def under_way_fields(under_way: api.UnderWay) -> dict[str, Any]:
    """How far the hand-over is that a schedule is in the middle of; `hint` is null where there is nothing to do."""
    handover = under_way.handover
    return {
        "to": handover.to_firer,
        "state": handover.state,
        "since": _plain(handover.requested_at),
        "beat_from": _plain(handover.beat_from),
        "hint": under_way.hint or None,
    }


def run_fields(view: RunView) -> dict[str, Any]:
    """Every field of a run under its public name; values as in `schedule_fields`."""
    return {_RUN_RENAMED.get(name, name): _plain(getattr(view, name)) for name in RunView.__slots__}


def change_fields(change: ScheduleChange) -> dict[str, Any]:
    """A note of a change: when, what, who, and each field's values before and after."""
    fields = {name: _plain(getattr(change, name)) for name in ("changed_at", "action", "actor")}
    return {**fields, "fields": change.fields}


def explanation_fields(told: Explanation) -> dict[str, Any]:
    """An explanation as plain values; `run` as `run_fields` has it, or null."""
    names = ("schedule_id", "at", "occurrence", "state", "reason")
    return {
        **{name: _plain(getattr(told, name)) for name in names},
        "sent_at": [_plain(at) for at in told.sent_ats],
        "run": None if told.run is None else run_fields(told.run),
    }


def catch_fields(catch: BeatCatch) -> dict[str, Any]:
    """A note of what the guard of Beat's rows undid: what, who, when."""
    names = [field.attname for field in catch._meta.concrete_fields if field.attname != "id"]
    return {_RUN_RENAMED.get(name, name): _plain(getattr(catch, name)) for name in names}


def answer_fields(answer: api.HandoverAnswer) -> dict[str, Any]:
    """What became of a schedule that was to change its firer; `handover` as `handover_fields` has it, or null."""
    return {
        "schedule": str(answer.schedule_id),
        "name": answer.name,
        "to": answer.to.value,
        "status": answer.status.value,
        "reason": answer.reason,
        "evidence": answer.evidence and answer.evidence.as_json(),
        "handover": answer.handover and handover_fields(answer.handover),
    }


def handover_fields(handover: Handover) -> dict[str, Any]:
    """A change of a schedule's firer under its public names."""
    names = (
        *("id", "schedule_id", "organization_id", "method", "state", "is_forced", "actor", "reason", "evidence"),
        *("requested_at", "beat_from", "ended_at", "outcome"),
    )
    fields = {_RUN_RENAMED.get(name, name): _plain(getattr(handover, name)) for name in names}
    return {**fields, "name": handover.beat_name, "to": handover.to_firer}


def status_fields(found: api.CutoverStatus) -> dict[str, Any]:
    """Where the cutover stands; hand-overs as `handover_fields` has them, those that wait with a `hint` or null."""
    live = [{"host": one.host, "process_id": one.process_id, "mode": one.mode} for one in found.live_beats]
    return {
        "fired_by_beat": found.beats,
        "fired_by_pg": found.pgs,
        "on_the_way_to_pg": found.to_pg,
        "on_the_way_to_beat": found.to_beat,
        "live_beats": live,
        "method": found.method and found.method.value,
        "obstacle": found.obstacle,
        "waiting": [{**_named(one, found), "hint": found.hints.get(one.pk)} for one in found.waiting],
        "latest": [_named(one, found) for one in found.latest],
    }


def _named(handover: Handover, found: api.CutoverStatus) -> dict[str, Any]:
    return {**handover_fields(handover), "name": found.names.get(handover.schedule_id, handover.beat_name)}


def preview_fields(shown: Preview, count: int, herd: Herd | None) -> dict[str, Any]:
    """What lies ahead of a schedule under both firers' rules; values as in `schedule_fields`.

    Of its next occurrences `count`; `herd` is the crowded minute that it joins.
    """
    changes = [
        {
            "at": _plain(change.at),
            "offset_before": _offset(change.offset_before),
            "offset_after": _offset(change.offset_after),
            "results": [_side_by_side(row) for row in change.rows],
            "left_out": change.left_out,
        }
        for change in shown.changes
    ]
    return {
        "timezone": shown.timezone,
        "note": shown.note,
        "results": [_side_by_side(row) for row in shown.rows[:count]],
        "clock_changes": changes,
        "herd": herd and _herd_fields(herd),
    }


def forecast_fields(made: Forecast) -> dict[str, Any]:
    """What is ahead by minute; values as in `schedule_fields`."""
    busiest = [
        {
            "at": _plain(minute.at),
            "fires": minute.fires,
            "starts": minute.starts,
            "largest": [
                {"expression": one.cadence.expression, "timezone": one.cadence.timezone, "schedules": one.schedules}
                for one in minute.largest
            ],
        }
        for minute in made.busiest
    ]
    return {
        "since": _plain(made.since),
        "first_minute": _plain(made.first_minute),
        "until": _plain(made.until),
        "schedules": made.schedules,
        "left_out": made.left_out,
        "cadences": made.cadences,
        "seconds": round(made.seconds, 3),
        "busiest": busiest,
        "fires": list(made.fires),
        "starts": list(made.starts),
    }


def _herd_fields(herd: Herd) -> dict[str, Any]:
    at, warning = _plain(herd.at), herd.sentence
    return {"at": at, "others": herd.others, "jitter_seconds": herd.jitter_seconds, "warning": warning}


def _side_by_side(row: PreviewRow) -> dict[str, Any]:
    rule = row.rule and row.rule.value
    return {"pg": _plain(row.pg), "beat": _plain(row.beat), "differs": row.differs, "rule": rule, "reason": row.reason}


def _offset(offset: timedelta) -> str:
    minutes, seconds = divmod(abs(int(offset.total_seconds())), 60)
    sign = "-" if offset < timedelta(0) else "+"
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}" + (f":{seconds:02}" if seconds else "")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value if value is None or isinstance(value, bool | int | float | list | dict) else str(value)
