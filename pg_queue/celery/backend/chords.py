"""Chords: the header's members are counted in the database, and whoever counts the last one sends the callback.

- **A member counts once.** Its part is a row of its own, under the chord's row lock: executed twice, it is counted
  once; the first success stands, and it takes the place of an earlier failure while the chord is open.
- **One sends.** The statement that counts the last member gives its worker a claim, for `CLAIM_SECONDS`. A claim that
  has run out is taken over: by the next execution of a member of that chord, by any worker that counts a member of
  another, by `celery.backend_cleanup`, by the reaper.
- **Sent once.** Where the broker is this database too (`downbeat://`, of one alias), the chord is closed by the very
  transaction that stores the callback's message: both or neither, whatever is killed. With another broker a worker
  that is killed between sending and closing leaves a claim that is taken over, and the callback is sent again: under
  the same task id, at least once. That window is one statement long.
- A chord that is done stays as a mark until it expires, so that a member that is executed late begins nothing anew.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import connections, transaction

from pg_queue.celery.backend.address import Address
from pg_queue.celery.backend.rows import Encoded, checked_id
from pg_queue.celery.backend.sessions import Sessions
from pg_queue.session import Session
from pg_queue.sql import statements

logger = logging.getLogger(__name__)

_SQL = statements("celery_chords")

CLAIM_SECONDS = 30.0
"""How long a worker may take to read the parts and to send the callback before another one does so too."""
DONE_SECONDS = 86400.0
"""How long the mark of a chord that is done stays, where results never expire."""
RECOVER_SECONDS = 15.0
"""How often a worker that counts members looks for claims that have run out."""
RECOVER_BATCH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to send a chord's callback, until it runs out."""

    group_id: str
    token: uuid.UUID
    header: Encoded | None
    """The structure of the header; None: it is flat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How a member ended."""

    task_id: str
    status: str
    result: Encoded


class ChordRows:
    """Counts chords of one namespace."""

    def __init__(self, address: Address, sessions: Sessions) -> None:
        self._address, self._sessions = address, sessions

    def open(self, group_id: str, *, header: Encoded | None, ttl_seconds: float | None) -> None:
        """A chord begins, or begins anew."""
        self._execute(
            "open",
            group_id=checked_id(group_id),
            header=header and header.body,
            content_type=header.content_type if header else "",
            content_encoding=header.content_encoding if header else "",
            ttl=ttl_seconds,
        )

    def resize(self, group_id: str, size: int, *, ttl_seconds: float | None) -> None:
        """It has so many members, beside those that are added."""
        self._execute("resize", group_id=checked_id(group_id), size=size, ttl=ttl_seconds)

    def extend(self, group_id: str, *, ttl_seconds: float | None) -> None:
        """It has one more member."""
        self._execute("extend", group_id=checked_id(group_id), ttl=ttl_seconds)

    def count(
        self,
        group_id: str,
        part: Part,
        *,
        position: int | None,
        callback: bytes,
        token: uuid.UUID,
        ttl_seconds: float | None,
    ) -> Claim | None:
        """A member has ended. A claim: all have, and the caller is to send the callback.

        `token`: the claim's, should there be one. The same once more, after an answer that was lost, answers the same.
        """
        parameters = {
            "namespace": self._address.namespace,
            "group_id": checked_id(group_id),
            "task_id": checked_id(part.task_id),
            "position": -1 if position is None else position,
            "status": part.status,
            "content_type": part.result.content_type,
            "content_encoding": part.result.content_encoding,
            "result": part.result.body,
            "callback": callback,
            "token": token,
            "claim": CLAIM_SECONDS,
            "ttl": ttl_seconds,
        }
        with self._sessions.session() as session:
            row = _count(session, parameters)
        if row is None or not row[0]:
            return None
        return Claim(group_id=group_id, token=token, header=_header(row[1:]))

    def parts(self, group_id: str) -> list[Part]:
        """How the members ended, in the header's order."""
        return [
            Part(
                task_id=task_id,
                status=status,
                result=Encoded(content_type=content_type, content_encoding=encoding, body=bytes(body)),
            )
            for task_id, status, content_type, encoding, body in self._fetch("parts", group_id=group_id)
        ]

    @contextmanager
    def closing(self, claim: Claim, *, alias: str | None, ttl_seconds: float | None) -> Iterator[bool]:
        """While this lasts the callback is sent; at its end the chord is done. False: the claim is another's by now.

        `alias`: the transaction of this Django database, which stores what is sent meanwhile, closes the chord too. An
        exception leaves the claim to be taken over when it has run out.
        """
        ttl = DONE_SECONDS if ttl_seconds is None else ttl_seconds
        if alias is not None:
            connections[alias].close_if_unusable_or_obsolete()
            with transaction.atomic(using=alias):
                yield self._close_joining(claim, alias, ttl)
            return
        is_held = bool(self._fetch("hold", group_id=claim.group_id, token=claim.token, claim=CLAIM_SECONDS))
        yield is_held
        if is_held:
            self._fetch("close", group_id=claim.group_id, token=claim.token, ttl=ttl)

    def take_over(self) -> list[tuple[Claim, bytes]]:
        """Claims that have run out, at most `RECOVER_BATCH`, with the callbacks that are to be sent."""
        token = uuid.uuid4()
        rows = self._fetch("take_over", token=token, claim=CLAIM_SECONDS, limit=RECOVER_BATCH)
        return [(Claim(group_id=row[0], token=token, header=_header(row[2:])), bytes(row[1])) for row in rows]

    def _close_joining(self, claim: Claim, alias: str, ttl: float) -> bool:
        with connections[alias].cursor() as cursor:
            cursor.execute(_SQL["close"], self._named({"group_id": claim.group_id, "token": claim.token, "ttl": ttl}))
            return cursor.fetchone() is not None

    def _named(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {"namespace": self._address.namespace, **parameters}

    def _fetch(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self._sessions.session() as session:
            return session.execute(_SQL[statement], self._named(parameters), binary=True).fetchall()

    def _execute(self, statement: str, **parameters: Any) -> None:
        with self._sessions.session() as session:
            session.execute(_SQL[statement], self._named(parameters))


class Turn:
    """Says at most once in so many seconds that it is time."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._next_at = seconds, time.monotonic() + seconds

    def has_come(self) -> bool:
        """True for the first who asks after the time is over."""
        now = time.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + self._seconds
        return True


def _count(session: Session, parameters: Mapping[str, Any]) -> Sequence[Any] | None:
    """The lock in a statement before the one that counts: that one's snapshot has all that was counted before."""
    with session.pipeline() if psycopg.Pipeline.is_supported() else nullcontext(), session.transaction():
        locked = session.execute(_SQL["lock"], parameters)
        counted = session.execute(_SQL["count"], parameters, binary=True)
        row: Sequence[Any] | None = counted.fetchone()
        if row is not None or locked.rowcount:
            return row
        # Nobody has opened it here: its size may still come, or it has expired.
        session.execute(_SQL["begin"], parameters)
        session.execute(_SQL["lock"], parameters)
        return session.execute(_SQL["count"], parameters, binary=True).fetchone()


def _header(row: Sequence[Any]) -> Encoded | None:
    header, content_type, content_encoding = row
    if header is None:
        return None
    return Encoded(content_type=content_type, content_encoding=content_encoding, body=bytes(header))
