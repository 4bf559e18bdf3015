"""Between MongoDB's documents and the queue's words.

A message is one document of `messages` from its enqueueing until its outcome, and its dead letter, have outlived their
times. Ids are 32 hexadecimal digits, instants microseconds since 1970, and what belongs to others (arguments, results,
failures) is JSON text: BSON would refuse large numbers, and names with a dollar sign. Of a message that has ended,
`has_outcome` and `is_dead` say what is kept of it, and `owed_to` which consumer has not taken its outcome yet.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from pg_queue.domain import TERMINAL_STATES, Claim, Message, MessageState, NewMessage, Progress
from pg_queue.settings import QueueSettings
from pg_queue.storage import rows
from pg_queue.storage.instants import as_microseconds, to_instant
from pg_queue.storage.mongodb.server import Document
from pg_queue.storage.parcels import pack_continuations
from pg_queue.uuid7 import uuid7

T = TypeVar("T")

LIVING = [MessageState.WAITING.value, MessageState.RUNNING.value]

FIELDS = (
    "_id",
    "task",
    "args",
    "kwargs",
    "queue",
    "priority",
    "state",
    "attempts",
    "max_attempts",
    "run_after",
    "enqueued_at",
    "started_at",
    "finished_at",
    "headers",
    "organization_id",
    "report_to",
    "worker",
    "result",
    "error",
    "key",
    "barrier_id",
    "token",
    "lease_until",
)
"""A message's fields in the order that `pg_queue.storage.rows` reads."""
_INSTANTS = [FIELDS.index(name) for name in ("run_after", "enqueued_at", "started_at", "finished_at", "lease_until")]
_IDS = [FIELDS.index(name) for name in ("_id", "barrier_id", "token")]


def new_document(
    message: NewMessage,
    conf: QueueSettings,
    *,
    namespace: str,
    now: int,
    sequence: int,
    barrier_id: str | None,
) -> Document:
    """The message as it waits."""
    due = now if message.run_after is None else max(now, as_microseconds(message.run_after))
    continuations = pack_continuations(message)
    return {
        "_id": (message.id or uuid7()).hex,
        "namespace": namespace,
        "queue": message.queue,
        "priority": message.priority,
        "state": MessageState.WAITING.value,
        "run_after": due,
        "sequence": sequence,
        "enqueued_at": now,
        "task": message.task,
        "args": rows.encode_json(message.args),
        "kwargs": rows.encode_json(message.kwargs),
        "headers": rows.encode_json(message.headers),
        "organization_id": message.organization_id,
        "report_to": message.report_to,
        "attempts": 0,
        "max_attempts": message.max_attempts or conf.max_attempts,
        "key": message.key,
        "barrier_id": barrier_id,
        "continuations": None if continuations is None else rows.encode_json(continuations),
        "is_dead": False,
        "has_outcome": False,
    }


def message_of(document: Mapping[str, Any]) -> Message:
    """The message. Raises: ValueError, RecursionError for what no operation has written."""
    return _decoded(rows.decode_message, document)


def outcome_of(document: Mapping[str, Any]) -> Message:
    """The same, of one that may have ended: as its outcome remembers it, without arguments."""
    if document.get("state") in TERMINAL_STATES:
        document = {**document, "args": "[]", "kwargs": "{}", "report_to": document.get("owed_to")}
    message = message_of(document)
    return message if document.get("progress") is None else replace(message, progress=_progress(document["progress"]))


def letter_of(document: Mapping[str, Any]) -> Message:
    """The same of a dead letter, whose arguments are kept."""
    return message_of({**document, "finished_at": document.get("died_at")})


def claim_of(document: Mapping[str, Any]) -> Claim:
    """The claim. Raises: as `message_of`."""
    return _decoded(rows.decode_claim, document)


def readable(
    documents: Iterable[Mapping[str, Any]], decode: Callable[[Mapping[str, Any]], Message] = message_of
) -> Iterator[Message]:
    """The messages of those that can be read; see `pg_queue.storage.rows.readable`."""
    return rows.readable(((one.get("_id"), one) for one in documents), lambda pair: decode(pair[1]))


def hexes(ids: Iterable[uuid.UUID]) -> list[str]:
    """The ids as documents have them."""
    return [one.hex for one in ids]


def _decoded(decode: Callable[[Sequence[Any]], T], document: Mapping[str, Any]) -> T:
    try:
        row = [document.get(name) for name in FIELDS]
        for at in _IDS:
            row[at] = _maybe_id(row[at])
        for at in _INSTANTS:
            row[at] = _maybe_instant(row[at])
        return decode(row)
    except (TypeError, AttributeError, OverflowError) as error:  # a value of another type, put there by hand
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _progress(stored: Any) -> Progress:
    try:
        at = to_instant(stored["at"])
        return Progress(done=float(stored["done"]), total=float(stored["total"]), stage=str(stored["stage"]), at=at)
    except (TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"progress: {error!r}") from error


def _maybe_id(text: Any) -> uuid.UUID | None:
    return None if text is None else uuid.UUID(text)


def _maybe_instant(stored: Any) -> datetime | None:
    return None if stored is None else to_instant(stored)
