"""Messages inside other rows, as JSON: the continuations of a message, the callbacks of a barrier.

A parcel is an object that holds what differs from the defaults of `NewMessage`, by the names of its fields: `id` as a
text, `run_after` in ISO 8601, `key_ttl` in seconds, `on_success` and `on_failure` as lists of parcels.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pg_queue.domain import Json, NewMessage

logger = logging.getLogger(__name__)

UNREADABLE = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""What a text raises that `pack` has not made."""


def pack(message: NewMessage) -> dict[str, Json]:
    """The message as a parcel."""
    given = {name: getattr(message, name) for name in _FIELDS}
    return {name: _PACK.get(name, _as_is)(value) for name, value in given.items() if value != _DEFAULTS.get(name)}


def unpack(parcel: Mapping[str, Json]) -> NewMessage:
    """The message of a parcel. Raises: one of `UNREADABLE` for what `pack` has not made."""
    return NewMessage(**{name: _UNPACK.get(name, _as_is)(value) for name, value in parcel.items()})


def pack_continuations(message: NewMessage) -> dict[str, Json] | None:
    """What the message's end enqueues, as its row keeps it; None: nothing."""
    if not message.on_success and not message.on_failure:
        return None
    return {"success": _pack_all(message.on_success), "failure": _pack_all(message.on_failure)}


def unpack_continuations(stored: Mapping[str, Json] | None, *, succeeded: bool) -> list[NewMessage]:
    """What this end enqueues, in the order in which it was given. Raises: as `unpack`."""
    return [] if stored is None else _unpack_all(stored.get("success" if succeeded else "failure", ()))


def read_continuations(text: str, *, succeeded: bool, message_id: object) -> list[NewMessage]:
    """The same from a row's text. What no enqueue has written is said, and nothing follows, so that it stops nobody.

    `message_id` is whose they are, for the log.
    """
    try:
        return unpack_continuations(json.loads(text), succeeded=succeeded)
    except UNREADABLE as error:
        logger.error("continuation.unreadable message=%s; %s", message_id, error)
        return []


def read_callback(text: str, *, barrier_id: object) -> list[NewMessage]:
    """The message in a barrier's plan, or none where nobody can read it, which is said."""
    try:
        return [unpack(json.loads(text))]
    except UNREADABLE as error:
        logger.error("callback.unreadable barrier=%s; %s", barrier_id, error)
        return []


def _as_is(value: Any) -> Any:
    return value


def _pack_all(messages: Sequence[NewMessage]) -> list[Json]:
    return [pack(message) for message in messages]


def _unpack_all(parcels: Sequence[Mapping[str, Json]]) -> list[NewMessage]:
    return [unpack(parcel) for parcel in parcels]


_FIELDS = tuple(field.name for field in fields(NewMessage))
_DEFAULTS: dict[str, Any] = {name: getattr(NewMessage(task=""), name) for name in _FIELDS if name != "task"}
_PACK: dict[str, Callable[[Any], Json]] = {
    "args": list,
    "kwargs": dict,
    "headers": dict,
    "id": str,
    "run_after": datetime.isoformat,
    "key_ttl": timedelta.total_seconds,
    "on_success": _pack_all,
    "on_failure": _pack_all,
}
_UNPACK: dict[str, Callable[[Any], Any]] = {
    "id": UUID,
    "run_after": datetime.fromisoformat,
    "key_ttl": lambda seconds: timedelta(seconds=seconds),
    "on_success": _unpack_all,
    "on_failure": _unpack_all,
}
