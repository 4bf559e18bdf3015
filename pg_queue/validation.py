"""What a message or an event may say. Refused here, where it is written, with the field, what was expected and got."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from pg_queue.domain import DEFAULT_PRIORITY, MAX_PRIORITY, MIN_PRIORITY, Json, NewEvent, NewMessage
from pg_queue.errors import InvalidMessage, UnknownTask
from pg_queue.payload import check_headers, check_payload, check_value
from pg_queue.storage.parcels import pack_continuations
from pg_queue.tasks import Delivery, TaskInfo, get_task
from pg_queue.tasks.expiry import EXPIRES_AT, expiry_of, with_expiry
from pg_queue.tasks.policy import MOST_ATTEMPTS

_NAME_RULE = "1 to 128 letters, digits, '_', '-', '.' or ':', the first a letter, digit or '_'"
"""What a queue or a topic may be called: nothing that a list of them, a URL or a metric's label would have to quote."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,127}")
MAX_ORGANIZATION_LENGTH, MAX_REPORT_TO_LENGTH, MAX_KEY_LENGTH = 64, 32, 255
MAX_REASON_LENGTH = 2000
LATEST = datetime(9999, 12, 30, tzinfo=UTC)
"""The last instant that every timezone can show: what is later could be stored, and not read back."""
LONGEST_KEY_TTL = timedelta(days=36600)
"""A hundred years: what can be added to the present."""
MOST_CONTINUATION_LEVELS = 20
"""Continuations inside each other. Bounded, because each level is two of the row's JSON."""


def checked_message(message: NewMessage, *, max_bytes: int, is_unique: bool = True) -> NewMessage:
    """The message as it is stored: with its task's own number of attempts, expiry and key, where it does not say.

    `is_unique` False: it is a message of its own, whatever its task says.

    Raises: UnknownTask; InvalidMessage (also as PayloadNotJSON, PayloadTooLarge), of a continuation with the way to it:
    `on_success[0].args`. What one row keeps of continuations is bounded as its payload is.
    """
    found = _checked(message, max_bytes, is_unique=is_unique)
    if not found.on_success and not found.on_failure:
        return found
    found = _with_checked_continuations(found, max_bytes, MOST_CONTINUATION_LEVELS)
    field = "on_success" if found.on_success else "on_failure"
    check_value(pack_continuations(found), field=field, max_bytes=max_bytes)
    return found


def checked_members(members: Sequence[NewMessage], *, max_bytes: int) -> list[NewMessage]:
    """The members of a group as they are stored. Raises: as `checked_message`, with the way: `members[0].args`."""
    if not isinstance(members, (list, tuple)) or not all(isinstance(one, NewMessage) for one in members):
        raise InvalidMessage(field="members", expected="a list of NewMessage", got=members)
    return [checked_part(f"members[{at}]", one, max_bytes=max_bytes) for at, one in enumerate(members)]


def checked_part(part: str, message: NewMessage, *, max_bytes: int) -> NewMessage:
    """A message that belongs to a group, as it is stored: it has no key, which might stand for another message.

    Raises: as `checked_message`, also for a key and for a task with `unique`, with the way: `callback.args`.
    """
    with _naming(part):
        if message.key is not None:
            raise InvalidMessage(field="key", expected="None in a group", got=message.key)
        if get_task(message.task).unique is not None:
            raise InvalidMessage(field="task", expected="a task without unique in a group", got=message.task)
        return checked_message(message, max_bytes=max_bytes)


def checked_event(event: NewEvent, *, max_bytes: int) -> NewEvent:
    """The event, as it is. Raises: InvalidMessage (also as PayloadNotJSON, PayloadTooLarge)."""
    _check_name("topic", event.topic)
    _check_text("key", event.key, MAX_KEY_LENGTH)
    _check_id(event.id)
    check_value(event.payload, field="payload", max_bytes=max_bytes)
    return event


def check_queue(queue: str, priority: int = DEFAULT_PRIORITY) -> None:
    """Refuse a queue's name or a priority that no message may have. Raises: InvalidMessage."""
    _check_name("queue", queue)
    _check_range("priority", priority, MIN_PRIORITY, MAX_PRIORITY)


def check_reason(reason: str) -> None:
    """Refuse a reason that no record can hold. Raises: InvalidMessage (field `reason`)."""
    _check_text("reason", reason, MAX_REASON_LENGTH)


def check_message_id(message_id: uuid.UUID) -> None:
    """Refuse what is no message's id. Raises: InvalidMessage (field `message_id`)."""
    if not isinstance(message_id, uuid.UUID):
        raise InvalidMessage(field="message_id", expected="a uuid.UUID", got=message_id)


def checked_ids(field: str, ids: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """The ids, once more as a list. Raises: InvalidMessage, with the place of what is none: `ids[3]`."""
    try:
        found = list(ids)
    except TypeError:
        raise InvalidMessage(field=field, expected="a list of uuid.UUID", got=ids) from None
    for at, one in enumerate(found):
        if not isinstance(one, uuid.UUID):
            raise InvalidMessage(field=f"{field}[{at}]", expected="a uuid.UUID", got=one)
    return found


def _checked(message: NewMessage, max_bytes: int, *, is_unique: bool = True) -> NewMessage:
    info = get_task(message.task)
    message = _with_checked_arguments(message, info)
    check_payload(message.args, message.kwargs, max_bytes=max_bytes)
    check_headers(message.headers, max_bytes=max_bytes)
    expiry_of(message.headers)
    _check_fields(message)
    changes: dict[str, Any] = {}
    if info.expires is not None and EXPIRES_AT not in message.headers:
        changes["headers"] = with_expiry(message.headers, info.expires, message.run_after)
    if is_unique and info.unique is not None and message.key is None:
        changes |= {"key": info.unique.key(message.args, message.kwargs), "key_ttl": info.unique.hold}
    if info.max_attempts is not None:
        changes |= _attempts(message, info, info.max_attempts)
    return replace(message, **changes) if changes else message


def _check_fields(message: NewMessage) -> None:
    try:
        _check_labels(message.queue, message.priority, message.organization_id, message.report_to)
    except TypeError:  # not hashable, so not a text; the check itself says which
        _check_labels.__wrapped__(message.queue, message.priority, message.organization_id, message.report_to)
    _check_id(message.id)
    if message.run_after is not None:
        _check_instant("run_after", message.run_after)
    if message.max_attempts is not None:
        _check_range("max_attempts", message.max_attempts, 1, MOST_ATTEMPTS)
    if message.key is not None:
        _check_key(message.key)
    if message.key_ttl is not None:
        _check_ttl(message.key_ttl)


def _attempts(message: NewMessage, info: TaskInfo, own: int) -> dict[str, int]:
    if message.max_attempts is None:
        return {"max_attempts": own}
    if info.delivery is Delivery.AT_MOST_ONCE and message.max_attempts != 1:
        expected = f"1, or none, for the task {info.name!r}, which is delivered {Delivery.AT_MOST_ONCE}"
        raise InvalidMessage(field="max_attempts", expected=expected, got=message.max_attempts)
    return {}


def check_arguments(task: str, args: Sequence[Json], kwargs: Mapping[str, Json], *, max_bytes: int) -> None:
    """Refuse arguments that no message of this task may have.

    Raises: PayloadNotJSON, PayloadTooLarge; InvalidArguments for a task that is known here, and checks them.
    """
    check_payload(args, kwargs, max_bytes=max_bytes)
    with suppress(UnknownTask):
        checks = get_task(task).checks
        if checks is not None and checks.of_inputs:
            checks.as_values(args, kwargs)


def _with_checked_arguments(message: NewMessage, info: TaskInfo) -> NewMessage:
    """The message with arguments that are JSON, checked by its task's type hints where it says so."""
    is_payload = isinstance(message.args, (list, tuple)) and isinstance(message.kwargs, Mapping)
    if info.checks is None or not info.checks.of_inputs or not is_payload:
        return message
    args, kwargs = info.checks.as_json(message.args, message.kwargs)
    return replace(message, args=args, kwargs=kwargs)


def _with_checked_continuations(message: NewMessage, max_bytes: int, levels: int) -> NewMessage:
    """The message with its continuations checked, so many levels deep; its own fields have been."""
    if not levels:
        expected = f"continuations at most {MOST_CONTINUATION_LEVELS} levels deep"
        raise InvalidMessage(field="on_success", expected=expected, got="more")
    return replace(
        message,
        on_success=_checked_continuations("on_success", message.on_success, max_bytes, levels),
        on_failure=_checked_continuations("on_failure", message.on_failure, max_bytes, levels),
    )


def _checked_continuations(field: str, messages: Sequence[NewMessage], max_bytes: int, levels: int) -> list[NewMessage]:
    if not isinstance(messages, (list, tuple)) or not all(isinstance(one, NewMessage) for one in messages):
        raise InvalidMessage(field=field, expected="a list of NewMessage", got=messages)
    found = []
    for at, one in enumerate(messages):
        with _naming(f"{field}[{at}]"):
            checked = _checked(one, max_bytes)
            has_more = checked.on_success or checked.on_failure
            found.append(_with_checked_continuations(checked, max_bytes, levels - 1) if has_more else checked)
    return found


@contextmanager
def _naming(part: str) -> Iterator[None]:
    """What is refused within is a field of this part."""
    try:
        yield
    except InvalidMessage as error:
        raise type(error)(field=f"{part}.{error.field}", expected=error.expected, got=error.got) from None


@lru_cache(maxsize=1024, typed=True)
def _check_labels(queue: str, priority: int, organization_id: str, report_to: str | None) -> None:
    """Remembered, because most messages of a project carry the same few."""
    check_queue(queue, priority)
    _check_text("organization_id", organization_id, MAX_ORGANIZATION_LENGTH)
    if report_to is not None:
        _check_text("report_to", report_to, MAX_REPORT_TO_LENGTH)


def _check_name(field: str, value: object) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidMessage(field=field, expected=_NAME_RULE, got=value)


def _check_key(value: object) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_KEY_LENGTH or not _is_storable(value):
        raise InvalidMessage(field="key", expected=f"a text of 1 to {MAX_KEY_LENGTH} characters, or None", got=value)


def _check_ttl(value: object) -> None:
    if not isinstance(value, timedelta) or not timedelta() <= value <= LONGEST_KEY_TTL:
        expected = f"a timedelta from 0 to {LONGEST_KEY_TTL.days} days, or None"
        raise InvalidMessage(field="key_ttl", expected=expected, got=value)


def _check_id(value: object) -> None:
    if value is not None and not isinstance(value, uuid.UUID):
        raise InvalidMessage(field="id", expected="a uuid.UUID or None", got=value)


def _check_text(field: str, value: object, most: int) -> None:
    if not isinstance(value, str) or len(value) > most or not _is_storable(value):
        raise InvalidMessage(field=field, expected=f"a text of 0 to {most} characters", got=value)


def _check_instant(field: str, value: object) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is None or value > LATEST:
        expected = f"an aware datetime (with a timezone), not later than {LATEST.isoformat()}"
        raise InvalidMessage(field=field, expected=expected, got=value)


def _is_storable(text: str) -> bool:
    """PostgreSQL takes neither NUL nor half a surrogate pair."""
    return "\x00" not in text and (text.isascii() or text == text.encode("utf-8", "ignore").decode())


def _check_range(field: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidMessage(field=field, expected=f"an integer from {least} to {most}", got=value)
