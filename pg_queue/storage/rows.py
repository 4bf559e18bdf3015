"""Between the store's rows and the queue's words: what goes in as JSON text, what comes out as dataclasses."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from pg_queue.domain import (
    Claim,
    Event,
    Failure,
    Message,
    MessageState,
    NewEvent,
    NewMessage,
    Progress,
    PublishedEvent,
    Settlement,
)
from pg_queue.storage.parcels import pack_continuations
from pg_queue.uuid7 import uuid7

logger = logging.getLogger(__name__)

T = TypeVar("T")
E = TypeVar("E", bound=PublishedEvent)

UNREADABLE = (ValueError, RecursionError)
"""What the JSON parser raises: for a number of more digits than Python converts, and for too many levels."""

Row = Sequence[Any]
"""The columns of `claim`, `get` and `take_outcomes`, in the order in which their statements list them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """See `pg_queue.ports.QueueDepth`."""

    queue: str
    waiting: int
    delayed: int
    running: int
    dead: int
    oldest_due_seconds: float


def encode_messages(
    messages: Sequence[NewMessage], default_max_attempts: int, *, count: int, size: int
) -> tuple[list[UUID], list[str]]:
    """Each message's id, and all of them as JSON arrays of arrays, which the statement `enqueue` reads.

    One array holds at most `count` messages, and at most `size` characters unless a single message is longer.
    """
    ids, rows = _message_rows(messages, default_max_attempts)
    return ids, _chunks(rows, count=count, size=size)


def encode_whole_messages(
    messages: Sequence[NewMessage],
    default_max_attempts: int,
    default_key_ttl_seconds: float,
    *,
    barrier_id: UUID | None,
    count: int,
    size: int,
) -> tuple[list[UUID], list[str]]:
    """The same for the statement `enqueue_whole`: with keys, continuations and the barrier that waits for them."""
    ids, plain = _message_rows(messages, default_max_attempts)
    barrier = None if barrier_id is None else str(barrier_id)
    rows = [
        (
            *row,
            m.key,
            default_key_ttl_seconds if m.key_ttl is None else m.key_ttl.total_seconds(),
            barrier,
            pack_continuations(m),
        )
        for row, m in zip(plain, messages, strict=True)
    ]
    return ids, _chunks(rows, count=count, size=size)


def encode_message(message: NewMessage, namespace: str, default_max_attempts: int) -> dict[str, Any]:
    """The parameters of the statement `enqueue_one`."""
    return {
        "namespace": namespace,
        "id": message.id or uuid7(),
        "queue": message.queue,
        "priority": message.priority,
        "run_after": message.run_after,
        "task": message.task,
        "args": _encode(message.args),
        "kwargs": _encode(message.kwargs),
        "headers": _encode(message.headers),
        "organization_id": message.organization_id,
        "report_to": message.report_to,
        "max_attempts": message.max_attempts or default_max_attempts,
        "waker": None if message.run_after else waker(namespace, message.queue),
    }


def waker(namespace: str, queue: str = "") -> str:
    """What wakes those who listen to a queue, as NOTIFY says it; without a queue, to any of the namespace."""
    return f"{namespace} {queue}"


def encode_outcomes(outcomes: Iterable[tuple[Settlement, Any, float]]) -> str:
    """Settlements with what each keeps (a value or a failure) and its seconds, as the settling statements read them."""
    return encode_rows((s.message_id.hex, s.token.hex, kept, seconds) for s, kept, seconds in outcomes)


def encode_rows(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as the JSON array of arrays that a statement reads."""
    return _encode(list(rows))


def array_of(ids: Iterable[UUID]) -> str:
    """Ids as the text of an array: in a fraction of the time that psycopg takes for a list of them."""
    return "{" + ",".join([one.hex for one in ids]) + "}"


def encode_json(value: Any) -> str:
    """A value that was validated, as JSON text."""
    return _encode(value)


def encode_events(events: Sequence[NewEvent]) -> tuple[list[UUID], str]:
    """Each event's id, and all of them as a JSON array of arrays, as the outbox's statements read them.

    Ids that are made here ascend, so that events of one instant leave in the order in which they were given.
    """
    fresh = iter(sorted(uuid7() for event in events if event.id is None))
    ids = [event.id or next(fresh) for event in events]
    rows = [(str(i), e.topic, e.key or str(i), e.payload) for i, e in zip(ids, events, strict=True)]
    return ids, encode_rows(rows)


def decode_event(row: Row) -> Event:
    """The event in the columns of the statement `lease`."""
    return Event(**_event_fields(row), token=row[7])


def decode_published(row: Row) -> PublishedEvent:
    """The event in the columns of the statement `get`."""
    return PublishedEvent(**_event_fields(row))


def _event_fields(row: Row) -> dict[str, Any]:
    return {
        "id": row[0],
        "topic": row[1],
        "payload": None if row[2] is None else _json(row[2]),
        "key": row[3],
        "created_at": row[4].astimezone(UTC),
        "attempts": row[5],
        "error": row[6],
    }


def readable_events(rows: Iterable[T], decode: Callable[[T], E], id_of: Callable[[T], Any]) -> Iterator[E]:
    """The events in `rows`; what no operation has written stays leased until its lease is over, and stops nobody."""
    for row in rows:
        try:
            yield decode(row)
        except (*UNREADABLE, TypeError, AttributeError, KeyError, OverflowError) as error:
            logger.warning("event.unreadable event=%s; %s: %s", id_of(row), type(error).__name__, error)


def decode_message(row: Row) -> Message:
    """The message in the first columns. JSON comes as text: parsing bytes costs three times as much."""
    return Message(
        id=row[0],
        task=row[1],
        args=_json(row[2]),
        kwargs=_json(row[3]),
        queue=row[4],
        priority=row[5],
        state=MessageState(row[6]),
        attempts=row[7],
        max_attempts=row[8],
        run_after=row[9].astimezone(UTC),
        enqueued_at=row[10].astimezone(UTC),
        started_at=_instant(row[11]),
        finished_at=_instant(row[12]),
        headers=_json(row[13]),
        organization_id=row[14],
        report_to=row[15],
        worker=row[16],
        result=None if row[17] is None else _json(row[17]),
        error=None if row[18] is None else decode_failure(_json(row[18])),
        key=row[19],
        barrier_id=row[20],
    )


def decode_shown(row: Row) -> Message:
    """The message in the columns of `get`: its progress is the last one."""
    message = decode_message(row)
    return message if row[21] is None else replace(message, progress=decode_progress(_json(row[21])))


def encode_reports(reports: Sequence[tuple[UUID, UUID, Progress]]) -> str:
    """What executions say of themselves, as the statement `note_progress` reads it."""
    return encode_rows((i.hex, token.hex, p.done, p.total, p.stage) for i, token, p in reports)


def decode_progress(stored: Mapping[str, Any]) -> Progress:
    """The progress in its stored form. Raises: ValueError for what no operation has written."""
    try:
        return Progress(
            done=float(stored["done"]),
            total=float(stored["total"]),
            stage=str(stored["stage"]),
            at=datetime.fromisoformat(stored["at"]).astimezone(UTC),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"progress: {error!r}") from error


def decode_claim(row: Row) -> Claim:
    """The claim in all columns of the statement `claim`."""
    return Claim(message=decode_message(row), token=row[21], lease_until=row[22].astimezone(UTC))


def readable(rows: Iterable[Row], decode: Callable[[Row], Message] = decode_message) -> Iterator[Message]:
    """The messages in `rows`; what no operation has written is left out, and said, so that it stops nobody."""
    for row in rows:
        try:
            yield decode(row)
        except UNREADABLE as error:
            logger.warning("message.unreadable message=%s; %s", row[0], error)


def readable_page(
    rows_after: Callable[[Any], Sequence[T]],
    read: Callable[[Sequence[T]], Iterable[Message]],
    id_of: Callable[[T], Any],
    *,
    after: Any,
    limit: int,
) -> list[Message]:
    """The messages of the first page of at most `limit` rows on which one can be read: else who turns pages ends there.

    Empty: there is none after `after`.
    """
    while True:
        rows = rows_after(after)
        found = list(read(rows))
        if found or not rows or len(rows) < limit:
            return found
        after = id_of(rows[-1])


def decode_failure(stored: dict[str, Any]) -> Failure:
    """The failure in its stored form; see `Failure.as_json`."""
    return Failure(
        type=str(stored.get("type", "")),
        message=str(stored.get("message", "")),
        traceback=str(stored.get("traceback", "")),
    )


def claim_key(row: Row) -> tuple[UUID, UUID]:
    """The message's id and the claim's token, of a row of the statement `claim`."""
    return row[0], row[21]


_encode = json.JSONEncoder(default=dict, separators=(",", ":")).encode
"""Mappings that are no `dict` are kept as one."""


def _message_rows(
    messages: Sequence[NewMessage], default_max_attempts: int
) -> tuple[list[UUID], list[tuple[Any, ...]]]:
    """Each message's id, and what all have in common, in the order in which the statements read it."""
    ids = [message.id or uuid7() for message in messages]
    rows = [
        (
            str(message_id),
            m.queue,
            m.priority,
            m.run_after.isoformat() if m.run_after else None,
            m.task,
            m.args,
            m.kwargs,
            m.headers,
            m.organization_id,
            m.report_to,
            m.max_attempts or default_max_attempts,
        )
        for message_id, m in zip(ids, messages, strict=True)
    ]
    return ids, rows


def _chunks(rows: Sequence[Any], *, count: int, size: int) -> list[str]:
    slices = (rows[at : at + count] for at in range(0, len(rows), count))
    return [text for part in slices for text in _halved(part, size)]


def _halved(rows: Sequence[Any], size: int) -> Iterator[str]:
    """All rows as one JSON array, or as several where it would be longer than `size` and holds more than one row."""
    text = _encode(rows)
    if len(text) <= size or len(rows) == 1:
        yield text
        return
    half = len(rows) // 2
    yield from _halved(rows[:half], size)
    yield from _halved(rows[half:], size)


def _json(text: str) -> Any:
    """Most messages have no headers, many no arguments: those two are not worth a parser."""
    if text == "{}":
        return {}
    return [] if text == "[]" else json.loads(text)


def _instant(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)
