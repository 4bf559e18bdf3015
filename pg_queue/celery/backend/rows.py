"""The rows of results and groups, and the slots by which waiting processes and storing workers find each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from psycopg import sql

from pg_queue.celery.backend.address import Address
from pg_queue.celery.backend.sessions import Sessions
from pg_queue.session import Session
from pg_queue.sql import statements

_SQL = statements("celery_results")

SLOTS = 32
"""Half of what PostgreSQL's lock table has for each session by default (`max_locks_per_transaction`)."""
LOCK_CLASS = 0x6463_7273
"""First key of the advisory locks of those who wait."""
LONGEST_ID = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Something as a serializer wrote it."""

    content_type: str
    content_encoding: str
    body: bytes


class ResultRows:
    """Reads and writes results and groups of one namespace. Each call is one statement, committed by itself."""

    def __init__(self, address: Address, sessions: Sessions) -> None:
        self._namespace = address.namespace
        self._sessions = sessions

    def store(self, task_id: str, status: str, meta: Encoded, *, ttl_seconds: float | None) -> None:
        """Keep a task's state, unless it has succeeded before, and wake those who wait for it. None: for ever."""
        payload = payload_of(self._namespace, task_id)
        slot = slot_of(payload)
        self._execute(
            "store",
            task_id=checked_id(task_id),
            status=status,
            ttl=ttl_seconds,
            channel=channel_of(slot),
            payload=payload,
            lock_class=LOCK_CLASS,
            slot=slot,
            **_columns(meta),
        )

    def get(self, task_ids: Collection[str]) -> dict[str, Encoded]:
        """What is known of these tasks; the others are left out."""
        rows = self._fetch("get", ids=list(task_ids))
        return {row[0]: _encoded(row[1:]) for row in rows}

    def forget(self, task_id: str) -> None:
        """Delete what is known of a task."""
        self._execute("forget", task_id=task_id)

    def save_group(self, group_id: str, meta: Encoded, *, ttl_seconds: float | None) -> None:
        """Keep a group. None: for ever."""
        self._execute("save_group", group_id=checked_id(group_id), ttl=ttl_seconds, **_columns(meta))

    def get_group(self, group_id: str) -> Encoded | None:
        """A group that was saved."""
        rows = self._fetch("get_group", group_id=group_id)
        return _encoded(rows[0]) if rows else None

    def delete_group(self, group_id: str) -> None:
        """Forget a group."""
        self._execute("delete_group", group_id=group_id)

    def retain(self, *, limit: int) -> int:
        """Delete at most `limit` of each kind past their time to live, of all namespaces; how many that were."""
        with self._sessions.session() as session:
            return sum(session.execute(_SQL[name], {"limit": limit}).rowcount for name in RETAINING)

    def _fetch(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self._sessions.session() as session:
            given = {"namespace": self._namespace, **parameters}
            return session.execute(_SQL[statement], given, binary=True).fetchall()

    def _execute(self, statement: str, **parameters: Any) -> None:
        with self._sessions.session() as session:
            session.execute(_SQL[statement], {"namespace": self._namespace, **parameters})


RETAINING = ("retain_results", "retain_groups", "retain_chords")
"""The statements that delete what is past its time."""


def payload_of(namespace: str, task_id: str) -> str:
    """What a notification says: whose result there is."""
    return f"{namespace} {task_id}"


def slot_of(payload: str) -> int:
    """The slot in which those who wait for this result listen."""
    return crc32(payload.encode()) % SLOTS


def channel_of(slot: int) -> str:
    """The slot's channel."""
    return f"pg_queue_celery_{slot}"


def listen(session: Session, slots: Collection[int]) -> None:
    """Hear of the results in these slots from now on, and have their storing workers notify."""
    for slot in slots:
        session.execute(sql.SQL(_SQL["listen"]).format(channel=sql.Identifier(channel_of(slot))))
    session.execute(_SQL["attend"], {"lock_class": LOCK_CLASS, "slots": sorted(slots)})


def checked_id(task_id: str) -> str:
    """`task_id`, when a row can have it. Raises: ValueError."""
    if not task_id or len(task_id) > LONGEST_ID or "\0" in task_id:
        raise ValueError(f"task_id: expected 1 to {LONGEST_ID} characters without NUL, got: {task_id!r:.300}")
    return task_id


def _columns(encoded: Encoded) -> Mapping[str, Any]:
    return {
        "content_type": encoded.content_type,
        "content_encoding": encoded.content_encoding,
        "meta": encoded.body,
    }


def _encoded(row: tuple[Any, ...]) -> Encoded:
    content_type, content_encoding, body = row
    return Encoded(content_type=content_type, content_encoding=content_encoding, body=bytes(body))
