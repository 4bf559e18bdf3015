"""The entries of `beat_schedule` of the project's Celery app, written as Beat's rows just as Beat would at its start.

The app is the one that dcb's `DatabaseScheduler` falls back on: Celery's current one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from scheduler.beat import rows
from scheduler.errors import InvalidInput

KEPT_OPTIONS = frozenset({"queue", "exchange", "routing_key", "priority", "headers", "expire_seconds"})
"""The `options` of an entry that dcb's rows hold; it drops all others without a word."""
_SECOND = timedelta(seconds=1)


def conf_entries() -> Mapping[str, Mapping[str, Any]]:
    """The entries by name, also those that tasks' modules add when the app is finalized."""
    app = _app()
    app.loader.import_default_modules()
    app.finalize()
    return dict(app.conf.beat_schedule or {})


def write_entry(name: str, entry: Mapping[str, Any]) -> None:
    """Write the entry's row, as Beat would, and have Beat see it. Joins the caller's transaction.

    Raises:
        InvalidInput: field `schedule`: dcb has no row for such times, or would round them; field `task`: there is
            none; field `args` or `kwargs`: JSON cannot hold them.
        Exception: whatever dcb raises at an entry that it cannot read.
    """
    from django_celery_beat.schedulers import ModelEntry

    _check_schedule(entry.get("schedule"))
    _check_call(entry)
    stamp = rows.last_stamp()
    ModelEntry.from_entry(name, app=_app(), **entry)
    rows.announce(after=stamp)  # dcb has stamped by this process's clock, which may lie behind


def dropped_options(entry: Mapping[str, Any]) -> list[str]:
    """The options of an entry that its row does not hold."""
    options = entry.get("options") or {}
    return sorted(option for option, value in options.items() if option not in KEPT_OPTIONS and value is not None)


def _check_schedule(written: Any) -> None:
    from celery import schedules
    from django_celery_beat.schedulers import ModelEntry

    schedule = schedules.maybe_schedule(written)
    if not isinstance(schedule, tuple(kind for kind, _, _ in ModelEntry.model_schedules)):
        expected = "a crontab, an interval, a clocked or a solar schedule, of which django-celery-beat has rows"
        raise InvalidInput(field="schedule", expected=expected, got=written)
    every: timedelta | None = getattr(schedule, "run_every", None)
    if every is not None and (every < _SECOND or every % _SECOND):
        expected = "whole seconds, because django-celery-beat rounds an entry's interval down to them"
        raise InvalidInput(field="schedule", expected=expected, got=written)


def _check_call(entry: Mapping[str, Any]) -> None:
    task = entry.get("task")
    if not task or not isinstance(task, str):
        raise InvalidInput(field="task", expected="the name of a task", got=task)
    for field in ("args", "kwargs"):
        try:
            json.dumps(entry.get(field))
        except (TypeError, ValueError, RecursionError) as error:
            expected = f"values that JSON can hold ({error})"
            raise InvalidInput(field=field, expected=expected, got=entry[field]) from None


def _app() -> Any:
    from celery import current_app

    return current_app._get_current_object()  # type: ignore[attr-defined]
