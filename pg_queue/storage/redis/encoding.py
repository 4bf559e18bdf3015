"""Between the scripts' texts and the queue's words.

A script gets others' JSON (arguments, results, headers, failures) as texts inside its own, and gives it back untouched:
Lua's parser would change it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pg_queue.domain import (
    Claim,
    Json,
    Message,
    MessageState,
    NewEvent,
    NewMessage,
    Progress,
    Retry,
    Settlement,
    Success,
)
from pg_queue.errors import InvalidMessage
from pg_queue.settings import QueueSettings
from pg_queue.storage.instants import as_microseconds, microseconds, to_instant
from pg_queue.storage.rows import decode_failure

logger = logging.getLogger(__name__)

UNREADABLE = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading an answer raises where it holds what no operation has written."""

MAX_FOLLOWING = 100
"""Continuations inside each other: each of them is a level more for the parsers of both sides."""

Row = Sequence[Any]
"""A message as the scripts give it: the fields of `SHOWN` in `records.lua`, in their order."""

encode = json.JSONEncoder(default=dict, ensure_ascii=False, separators=(",", ":")).encode
"""Mappings that are no `dict` are kept as one."""


def from_instant(instant: datetime) -> str:
    """The instant as the scripts count it, a text because Lua's numbers would round what is far away."""
    return str(as_microseconds(instant))


def parcel(message: NewMessage, conf: QueueSettings, *, id: UUID | None = None, level: int = 0) -> list[Json]:
    """A new message as `storing.lua` reads it. Raises: InvalidMessage (`on_success`) for too deep continuations."""
    if level > MAX_FOLLOWING:
        expected = f"at most {MAX_FOLLOWING} continuations inside each other"
        raise InvalidMessage(field="on_success", expected=expected, got=message.task)
    message_id = id or message.id

    def follow(messages: Sequence[NewMessage]) -> list[Json] | bool:
        return [parcel(one, conf, level=level + 1) for one in messages] or False

    return [
        message_id.hex if message_id else False,
        message.queue,
        message.priority,
        from_instant(message.run_after) if message.run_after else False,
        message.organization_id,
        message.report_to or False,
        message.max_attempts or conf.max_attempts,
        message.task,
        encode(message.headers) if message.headers else False,
        False if message.key is None else message.key,
        str(microseconds(conf.key_ttl_seconds if message.key_ttl is None else message.key_ttl)),
        encode([message.args, message.kwargs]),
        follow(message.on_success),
        follow(message.on_failure),
    ]


def pack_events(events: Sequence[NewEvent]) -> list[Json]:
    """New events as `publishing.lua` reads them."""
    return [[one.id.hex if one.id else False, one.topic, one.key, encode(one.payload)] for one in events]


def settlement(one: Settlement, result_ttl_seconds: float) -> list[Json]:
    """A settlement as `settle.lua` reads it."""
    outcome, ttl = one.outcome, microseconds(result_ttl_seconds)
    events = pack_events(one.events) or False
    head: list[Json] = [one.message_id.hex, one.token.hex]
    if isinstance(outcome, Success):
        kept = False if outcome.kept_value is None else encode(outcome.kept_value)
        kind = "traceless" if one.is_traceless else "success"
        return [*head, kind, kept, _ttl(outcome.ttl, ttl), 0, events]
    failure = encode(outcome.failure.as_json())
    if isinstance(outcome, Retry):
        return [*head, "retry", failure, microseconds(outcome.delay), ttl, events]
    return [*head, "death", failure, 0, _ttl(outcome.ttl, ttl), events]


def decode_message(row: Row) -> Message:
    """The message of a row. Raises: one of `UNREADABLE`."""
    args, kwargs = ([], {}) if row[19] is None else json.loads(row[19])
    return Message(
        id=UUID(row[0]),
        task=str(row[1]),
        args=list(args),
        kwargs=dict(kwargs),
        queue=row[2],
        priority=int(row[3]),
        state=MessageState(row[4]),
        attempts=int(row[5]),
        max_attempts=int(row[6]),
        run_after=to_instant(row[7]),
        enqueued_at=to_instant(row[8]),
        started_at=_maybe_instant(row[9]),
        finished_at=_maybe_instant(row[10]),
        headers={} if row[11] is None else dict(json.loads(row[11])),
        organization_id=row[12],
        report_to=row[13],
        worker=row[14],
        result=None if row[15] is None else json.loads(row[15]),
        error=None if row[16] is None else decode_failure(json.loads(row[16])),
        key=row[17],
        barrier_id=None if row[18] is None else UUID(row[18]),
        progress=None if row[22] is None else _progress(row[22], row[23]),
    )


def decode_claim(row: Row) -> Claim:
    """The claim of a row. Raises: one of `UNREADABLE`."""
    return Claim(message=decode_message(row), token=UUID(row[20]), lease_until=to_instant(row[21]))


def claim_key(row: Row) -> tuple[UUID, UUID]:
    """The message's id and the claim's token, of a claim's row that cannot be read as a whole."""
    return UUID(row[0]), UUID(row[20])


def readable(rows: Iterable[Row]) -> Iterator[Message]:
    """The messages in `rows`; what no operation has written is left out, and said, so that it stops nobody."""
    for row in rows:
        try:
            yield decode_message(row)
        except UNREADABLE as error:
            logger.warning("message.unreadable message=%s; %s", row[0], error)


def _progress(text: str, at: str) -> Progress:
    done, total, stage = json.loads(text)
    return Progress(done=float(done), total=float(total), stage=str(stage), at=to_instant(at))


def _maybe_instant(text: str | None) -> datetime | None:
    return None if text is None else to_instant(text)


def _ttl(own: timedelta | None, default: int) -> int:
    return default if own is None else microseconds(own)
