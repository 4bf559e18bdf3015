"""Between outcomes and what a store writes: JSON as text of ASCII characters only, whole milliseconds to live."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TypeVar
from uuid import UUID

from pg_queue.domain import Failure, MessageState
from pg_queue.payload import encode_result
from pg_queue.results.domain import Outcome, Result

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An outcome as it is written."""

    message_id: UUID
    namespace: str
    state: str
    value: str | None
    error: str | None
    attempts: int
    started_at: datetime
    ttl_milliseconds: int | None
    """None: for ever."""

    @property
    def size(self) -> int:
        """Bytes of its JSON."""
        return len(self.value or "") + len(self.error or "")


def encode_outcomes(outcomes: Iterable[Outcome], *, ttl_seconds: float, max_bytes: int) -> list[Row]:
    """One row for each message: the latest execution's, ordered by id, so that concurrent writers lock in one order.

    `ttl_seconds` counts where an outcome has no time to live of its own; 0: for ever. Raises: PayloadTooLarge,
    PayloadNotJSON.
    """
    latest: dict[UUID, Outcome] = {}
    for outcome in outcomes:
        before = latest.get(outcome.message_id)
        if before is None or outcome.started_at > before.started_at:
            latest[outcome.message_id] = outcome
    return [_encode(latest[message_id], ttl_seconds, max_bytes) for message_id in sorted(latest)]


def decode_result(
    *,
    message_id: UUID,
    namespace: str,
    state: str,
    value: str | None,
    error: str | None,
    attempts: int,
    finished_at: datetime,
) -> Result:
    """The result in the columns of a row."""
    return Result(
        message_id=message_id,
        namespace=namespace,
        state=MessageState(state),
        attempts=attempts,
        finished_at=finished_at,
        value=json.loads(value) if value else None,
        error=Failure(**json.loads(error)) if error else None,
    )


def readable(results: Iterable[tuple[UUID, Callable[[], Result]]]) -> dict[UUID, Result]:
    """The results that can be read; what no `put` has written is left out, and said, so that it stops nobody."""
    found: dict[UUID, Result] = {}
    for message_id, decode in results:
        try:
            found[message_id] = decode()
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            logger.warning("result.unreadable message=%s; %s: %s", message_id, type(error).__name__, error)
    return found


def chunks(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """`items` in lists of at most `count`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, count)):
        yield chunk


def chunks_by_size(rows: Sequence[Row], *, count: int, size: int) -> Iterator[list[Row]]:
    """`rows` in lists of at most `count`, and of at most `size` bytes of JSON unless a single one is larger."""
    chunk: list[Row] = []
    taken = 0
    for row in rows:
        if chunk and (len(chunk) == count or taken + row.size > size):
            yield chunk
            chunk, taken = [], 0
        chunk.append(row)
        taken += row.size
    if chunk:
        yield chunk


def _encode(outcome: Outcome, ttl_seconds: float, max_bytes: int) -> Row:
    seconds = ttl_seconds if outcome.ttl is None else outcome.ttl.total_seconds()
    return Row(
        message_id=outcome.message_id,
        namespace=outcome.namespace,
        state=outcome.state.value,
        value=None if outcome.value is None else _ascii(encode_result(outcome.value, max_bytes=max_bytes)),
        error=None if outcome.error is None else json.dumps(outcome.error.as_json()),
        attempts=outcome.attempts,
        started_at=outcome.started_at,
        ttl_milliseconds=max(1, round(seconds * 1000)) if seconds else None,
    )


def _ascii(text: str) -> str:
    """The same JSON, whatever character set a database keeps text in."""
    return text if text.isascii() else json.dumps(json.loads(text), separators=(",", ":"))
