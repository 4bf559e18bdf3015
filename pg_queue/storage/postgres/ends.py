"""How messages end, and what follows: their keys lapse, continuations are enqueued, events leave, barriers are told.

Everything that follows from an end is in the transaction of that end. Locks are taken in one order by all who end
messages: the messages (by id), then the barriers (by id).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, DataError, IntegrityError, ProgrammingError

from pg_queue.domain import Failure, MessageState, NewMessage, Retry, Settled, Settlement, Success
from pg_queue.settings import QueueSettings
from pg_queue.sql import statements
from pg_queue.storage.failures import cancelled, vanished
from pg_queue.storage.parcels import read_callback, read_continuations
from pg_queue.storage.postgres.barriers import PostgresBarriers
from pg_queue.storage.postgres.connection import StoreConnection
from pg_queue.storage.postgres.outbox import PostgresOutbox
from pg_queue.storage.rows import Row, array_of, encode_outcomes, encode_rows

logger = logging.getLogger(__name__)

Enqueue = Callable[[str, Sequence[NewMessage]], object]
"""Stores messages in a namespace, in the transaction that is open."""

Follower = tuple[str, NewMessage]
"""A namespace, and what is to be enqueued there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A message that is to end: under this token, or with None while it waits."""

    message_id: uuid.UUID
    token: uuid.UUID | None
    state: MessageState
    ttl_seconds: float
    value: Any = None
    failure: Failure | None = None

    def as_row(self) -> tuple[Any, ...]:
        """As the statement `end` reads it."""
        failure = self.failure and self.failure.as_json()
        return self.message_id.hex, self.token and self.token.hex, self.state, self.value, failure, self.ttl_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A message that has just ended, and what is to follow from it."""

    message_id: uuid.UUID
    token: uuid.UUID | None
    namespace: str
    has_succeeded: bool
    """False: it has failed for good, or was cancelled."""
    barrier_id: uuid.UUID | None
    continuations: str | None
    """JSON text, as its row had them."""


class Ends:
    """The transactions in which messages end. Each method is one, and joins the caller's where there is one."""

    def __init__(
        self,
        connection: StoreConnection,
        conf: QueueSettings,
        namespace: str,
        *,
        barriers: PostgresBarriers,
        outbox: PostgresOutbox,
        enqueue: Enqueue,
    ) -> None:
        self._connection, self._conf, self._namespace = connection, conf, namespace
        self._barriers, self._outbox, self._enqueue = barriers, outbox, enqueue
        self._statements = statements("ends")
        self._forget = statements("outcomes")["forget"]

    def settle(self, settlements: Sequence[Settlement]) -> dict[uuid.UUID, Settled]:
        """Answers by token; see `QueueStore.settle`."""
        answers = {settlement.token: Settled.LOST for settlement in settlements}
        with self._transaction():
            answers |= dict.fromkeys(self._retry(settlements), Settled.RETRYING)
            answers |= dict.fromkeys(self.forget(settlements), Settled.DONE)
            left = [self._settled(s) for s in settlements if answers[s.token] is Settled.LOST]
            for end in self._end(left):
                assert end.token is not None
                answers[end.token] = Settled.DONE if end.has_succeeded else Settled.DEAD
            held = (s for s in settlements if answers[s.token] is not Settled.LOST)
            self._outbox.publish([event for settlement in held for event in settlement.events])
        return answers

    def forget(self, settlements: Iterable[Settlement]) -> Iterable[uuid.UUID]:
        """Settle those that leave no trace, in one statement; their tokens."""
        pairs = {s.token: s.message_id for s in settlements if s.is_traceless}
        if not pairs:
            return ()
        parameters = {"ids": array_of(pairs.values()), "tokens": array_of(pairs)}
        ((count, tokens),) = self._connection.fetch(self._forget, parameters)
        return pairs if count == len(pairs) else tokens or ()

    def expire(self, *, limit: int) -> int:
        """See `QueueStore.expire_claims`."""
        with self._transaction():
            rows = self._connection.fetch(self._statements["expire"], {"limit": limit})
            self._end([self._vanished(row) for row in rows if not row[5]])
        return len(rows)

    def cancel(self, message_ids: Sequence[uuid.UUID], *, reason: str) -> set[uuid.UUID]:
        """See `QueueStore.cancel`."""
        with self._transaction():
            parameters = {"namespace": self._namespace, "ids": list(message_ids)}
            rows = self._connection.fetch(self._statements["hold"], parameters)
            return {end.message_id for end in self._end([self._cancelled(row, reason) for row in rows])}

    def _transaction(self) -> AbstractContextManager[None]:
        return self._connection.atomic()

    # Endings

    def _settled(self, settlement: Settlement) -> Ending:
        outcome = settlement.outcome
        ttl = None if isinstance(outcome, Retry) else outcome.ttl
        return Ending(
            message_id=settlement.message_id,
            token=settlement.token,
            state=MessageState.SUCCEEDED if isinstance(outcome, Success) else MessageState.FAILED,
            ttl_seconds=self._conf.result_ttl_seconds if ttl is None else ttl.total_seconds(),
            value=outcome.kept_value if isinstance(outcome, Success) else None,
            failure=None if isinstance(outcome, Success) else outcome.failure,
        )

    def _vanished(self, row: Row) -> Ending:
        message_id, token, worker, attempts, max_attempts, _ = row
        return Ending(
            message_id=message_id,
            token=token,
            state=MessageState.FAILED,
            ttl_seconds=self._conf.result_ttl_seconds,
            failure=vanished(attempts, max_attempts, worker=worker),
        )

    def _cancelled(self, row: Row, reason: str) -> Ending:
        message_id, token, attempts, max_attempts = row
        is_running = token is not None
        return Ending(
            message_id=message_id,
            token=token,
            state=MessageState.CANCELLED,
            ttl_seconds=self._conf.result_ttl_seconds,
            failure=cancelled(reason, attempts=attempts, max_attempts=max_attempts, is_running=is_running),
        )

    def _retry(self, settlements: Sequence[Settlement]) -> list[uuid.UUID]:
        """The tokens of those that wait for their next attempt now."""
        retries = [
            (s, s.outcome.failure.as_json(), s.outcome.delay.total_seconds())
            for s in settlements
            if isinstance(s.outcome, Retry)
        ]
        if not retries:
            return []
        parameters = {"outcomes": encode_outcomes(retries)}
        return [row[0] for row in self._connection.fetch(self._statements["retry"], parameters)]

    def _end(self, endings: Sequence[Ending]) -> list[End]:
        """End those whose token holds, with all that follows; in the order given."""
        if not endings:
            return []
        parameters = {"outcomes": encode_rows(ending.as_row() for ending in endings)}
        found = [_decode_end(row) for row in self._connection.fetch(self._statements["end"], parameters)]
        ends = {(end.message_id, end.token): end for end in found}
        asked = dict.fromkeys((ending.message_id, ending.token) for ending in endings)
        ordered = [ends[key] for key in asked if key in ends]
        self._follow(ordered)
        return ordered

    # What follows

    def _follow(self, ends: Sequence[End]) -> None:
        followers: dict[str, list[NewMessage]] = {}
        for namespace, message in (*_continuations(ends), *self._callbacks(ends)):
            followers.setdefault(namespace, []).append(message)
        for namespace, messages in followers.items():
            self._enqueue_readable(namespace, messages)

    def _callbacks(self, ends: Sequence[End]) -> list[Follower]:
        """Tell the barriers; the callbacks of those that ended by it."""
        told: dict[uuid.UUID, tuple[int, uuid.UUID | None]] = {}
        for end in ends:
            if end.barrier_id is not None:
                succeeded, culprit = told.get(end.barrier_id, (0, None))
                culprit = culprit if end.has_succeeded else culprit or end.message_id
                told[end.barrier_id] = (succeeded + end.has_succeeded, culprit)
        return list(_unpacked(self._barriers.tell(told)))

    def _enqueue_readable(self, namespace: str, messages: Sequence[NewMessage]) -> None:
        """Enqueue them; one that the database refuses (its id is in use, a value is none) must not stop the others."""
        try:
            with self._transaction():
                self._enqueue(namespace, messages)
        except DatabaseError as error:
            if not _is_refusal(error):
                raise
            if len(messages) == 1:
                logger.error("continuation.refused task=%s id=%s; %s", messages[0].task, messages[0].id, error)
                return
            for message in messages:
                self._enqueue_readable(namespace, [message])


def _continuations(ends: Iterable[End]) -> Iterator[Follower]:
    for end in ends:
        if end.continuations is not None:
            found = read_continuations(end.continuations, succeeded=end.has_succeeded, message_id=end.message_id)
            yield from ((end.namespace, message) for message in found)


def _unpacked(parcels: Iterable[tuple[uuid.UUID, str, str]]) -> Iterator[Follower]:
    for barrier_id, namespace, parcel in parcels:
        yield from ((namespace, message) for message in read_callback(parcel, barrier_id=barrier_id))


def _decode_end(row: Row) -> End:
    return End(
        message_id=row[0],
        token=row[1],
        namespace=row[2],
        has_succeeded=row[3] == MessageState.SUCCEEDED,
        barrier_id=row[4],
        continuations=row[5],
    )


def _is_refusal(error: DatabaseError) -> bool:
    """It is about the values of the message, so the same again fails again. (42804: a value of another type.)"""
    sqlstate = getattr(error.__cause__, "sqlstate", None)
    is_of_another_type = isinstance(error, ProgrammingError) and sqlstate in {None, "42804"}
    return is_of_another_type or isinstance(error, DataError | IntegrityError)
