"""What a schedule may be made of. Everything is refused here, before anything is stored, by field.

`clean` checks values one by one; `fill` puts them on a row and checks what only shows together.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pg_queue import api as queue
from scheduler import recurrence
from scheduler.domain import CatchUp, Firer, Overlap, ScheduleKind
from scheduler.errors import InvalidInput
from scheduler.models import PgPeriodicSchedule
from scheduler.settings import scheduler_settings

COLUMNS = {"name": "pipeline_name", "expression": "cron_string"}
"""A field's column, where the two differ."""
_LARGEST_SMALL_INTEGER = 32767
_LARGEST_INTEGER = 2**31 - 1
_LONGEST_JITTER = 86_400
_FIRST_INSTANT, _END_OF_INSTANTS = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


def clean(values: Mapping[str, object]) -> dict[str, Any]:
    """The values as they are stored, each checked for itself.

    Raises:
        InvalidInput: a name that is no field of a schedule, or the field whose value is refused.
    """
    for field in values:
        if field not in CLEANERS:
            raise InvalidInput(field=field, expected=f"one of the fields {', '.join(sorted(CLEANERS))}", got=field)
    return {field: CLEANERS[field](field, value) for field, value in values.items()}


def fill(row: PgPeriodicSchedule, cleaned: Mapping[str, Any]) -> None:
    """Set cleaned values on the row, then check the row as a whole.

    Raises:
        InvalidInput: field `expression`, `timezone`, `kind`, `dialect`, `ends_at`, `args` or `kwargs`.
    """
    for field, value in cleaned.items():
        setattr(row, COLUMNS.get(field, field), value)
    check(row)


def check(row: PgPeriodicSchedule) -> None:
    """Check a row as a whole, and bring its expression and period into the stored form. Raises `InvalidInput`."""
    recurrence.validate(kind=row.kind, expression=row.cron_string, timezone=row.timezone, dialect=row.dialect)
    row.cron_string = recurrence.normalise(row.kind, row.cron_string, row.dialect)
    is_interval = row.kind == ScheduleKind.INTERVAL
    row.interval_seconds = recurrence.interval_seconds(row.cron_string) if is_interval else None
    if row.starts_at is not None and row.ends_at is not None and row.ends_at <= row.starts_at:
        raise InvalidInput(field="ends_at", expected=f"an instant after starts_at ({row.starts_at})", got=row.ends_at)
    _check_payload(row.args, row.kwargs, row.task)


def schedule_id(value: object) -> uuid.UUID:
    """The id as a UUID. Raises `InvalidInput` for what is none."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(str(value))
    except ValueError:
        raise InvalidInput(field="schedule_id", expected="a UUID", got=value) from None


def refused(error: queue.InvalidMessage) -> InvalidInput:
    """The queue's refusal in the scheduler's words, to be raised."""
    return InvalidInput(field=error.field, expected=error.expected, got=_shorten(error.got))


def _check_payload(args: list[Any], kwargs: dict[str, Any], task: str) -> None:
    try:
        queue.validate_payload(args, kwargs, task=task)
    except queue.InvalidMessage as error:
        raise refused(error) from error


def _shorten(value: object) -> object:
    try:
        shown = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of too many digits
        return f"a {type(value).__name__} that cannot be shown"
    return value if len(shown) <= 200 else f"{shown[:199]}…"


def _text(field: str, value: object, *, most: int, least: int = 1) -> str:
    if not isinstance(value, str):
        raise InvalidInput(field=field, expected="text", got=value)
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise InvalidInput(field=field, expected="text without control characters", got=value)
    stripped = value.strip()
    if not least <= len(stripped) <= most:
        raise InvalidInput(field=field, expected=f"text of {least} to {most} characters", got=_shorten(value))
    return stripped


def _name(field: str, value: object) -> str:
    return _text(field, value, most=255)


def _task(field: str, value: object) -> str:
    name = _text(field, value, most=200)
    try:
        return queue.get_task(name).name
    except queue.UnknownTask:
        close = difflib.get_close_matches(name, [task.name for task in queue.tasks()])
        hint = f" (did you mean {', '.join(close)}?)" if close else ""
        raise InvalidInput(field=field, expected=f"the name of a registered task{hint}", got=name) from None


def _raw_text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(field=field, expected="text", got=value)
    return value


def _args(field: str, value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise InvalidInput(field=field, expected="a list of JSON values", got=_shorten(value))
    return list(value)


def _kwargs(field: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidInput(field=field, expected="an object of JSON values by name", got=_shorten(value))
    return dict(value)


def _queue(field: str, value: object) -> str:
    name = _raw_text(field, value)
    try:
        queue.check_queue(name)
    except queue.InvalidMessage as error:
        raise refused(error) from error
    return name


def _whole(least: int, most: Callable[[], int]) -> Callable[[str, object], int]:
    def check_number(field: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most():
            raise InvalidInput(field=field, expected=f"a whole number from {least} to {most()}", got=value)
        return value

    return check_number


def _optional(cleaner: Callable[[str, object], Any]) -> Callable[[str, object], Any]:
    return lambda field, value: None if value is None else cleaner(field, value)


def _instant(field: str, value: object) -> datetime:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidInput(field=field, expected="a datetime with a time zone (an aware one)", got=value)
    if not _FIRST_INSTANT <= value < _END_OF_INSTANTS:
        raise InvalidInput(field=field, expected="a datetime between the years 1970 and 2999, in UTC", got=value)
    return value.astimezone(UTC)


def _organization(field: str, value: object) -> str:
    text = _text(field, value, most=64)
    if re.search(r"\s", text):
        raise InvalidInput(field=field, expected="text without spaces", got=value)
    return text


def _workflow(field: str, value: object) -> str | None:
    return _text(field, value, most=255) if value else None


def _note(field: str, value: object) -> str:
    if not isinstance(value, str) or re.search("[\x00\ud800-\udfff]", value) or len(value) > 500:
        raise InvalidInput(field=field, expected="text of at most 500 characters", got=_shorten(value))
    return value.strip()


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(field=field, expected="true or false", got=value)
    return value


def _word(words: type[StrEnum]) -> Callable[[str, object], str]:
    def check_word(field: str, value: object) -> str:
        if not isinstance(value, str) or value not in set(words):
            raise InvalidInput(field=field, expected=f"one of {', '.join(words)}", got=value)
        return words(value).value

    return check_word


def _firer(field: str, value: object) -> str:
    chosen = scheduler_settings().default_firer if value is None else value
    if not isinstance(chosen, str) or chosen not in set(Firer):
        raise InvalidInput(field=field, expected="'pg' or 'beat'", got=value)
    return Firer(chosen).value


def occurrence_count(value: object) -> int:
    """How many occurrences to tell, from 1 to 1000. Raises `InvalidInput`, field `count`."""
    return _whole(1, lambda: 1000)("count", value)


def _longest_grace() -> int:
    return scheduler_settings().ledger_retention_days * 86400 - 1


CLEANERS: Mapping[str, Callable[[str, object], Any]] = {
    "name": _name,
    "task": _task,
    "expression": _raw_text,
    "kind": _raw_text,
    "timezone": _raw_text,
    "dialect": _raw_text,
    "args": _args,
    "kwargs": _kwargs,
    "queue": _queue,
    "priority": _whole(1, lambda: 10),
    "organization_id": _organization,
    "workflow_id": _workflow,
    "firer": _firer,
    "enabled": _flag,
    "pause_note": _note,
    "paused_until": _optional(_instant),
    "starts_at": _optional(_instant),
    "ends_at": _optional(_instant),
    "grace_seconds": _optional(_whole(1, _longest_grace)),
    "catch_up": _word(CatchUp),
    "overlap": _word(Overlap),
    "jitter_seconds": _whole(0, lambda: _LONGEST_JITTER),
    "run_limit": _optional(_whole(1, lambda: _LARGEST_INTEGER)),
    "pause_after_failures": _optional(_whole(1, lambda: _LARGEST_SMALL_INTEGER)),
    "max_attempts": _optional(_whole(1, lambda: _LARGEST_SMALL_INTEGER)),
}
"""One cleaner per field of a schedule, by the field's public name."""

FIELDS: Sequence[str] = tuple(CLEANERS)
"""The public names of a schedule's fields, in the order in which `create_schedule` takes them."""
