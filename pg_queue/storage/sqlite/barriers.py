"""Fan-out and fan-in: a counter of the members that are missing, and what follows when none is, or one has failed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from pg_queue.domain import Barrier, BarrierState, NewMessage
from pg_queue.errors import InvalidMessage
from pg_queue.sql import statements
from pg_queue.sqlite import as_instant, as_text
from pg_queue.storage.parcels import pack, read_callback
from pg_queue.storage.sqlite.messages import Messages
from pg_queue.storage.sqlite.session import Row, Session, as_instant_or_none, dump_ids, dump_json, load_id_or_none
from pg_queue.uuid7 import uuid7


class SqliteBarriers:
    """Implements `pg_queue.ports.Barriers`."""

    def __init__(self, session: Session, messages: Messages, namespace: str) -> None:
        self._session, self._messages, self._namespace = session, messages, namespace
        self._statements = statements("barriers", "sqlite")

    def create(
        self,
        members: Sequence[NewMessage],
        *,
        callback: NewMessage | None = None,
        on_abort: NewMessage | None = None,
        id: uuid.UUID | None = None,
    ) -> Barrier:
        """See the port."""
        for member in members:
            if member.key is not None:
                raise InvalidMessage(field="key", expected="None for a member of a barrier", got=member.key)
        barrier_id, called_back = id or uuid7(), _identified(callback)
        self._session.write(lambda now: self._open(barrier_id, members, called_back, on_abort, now))
        return self.get([barrier_id])[barrier_id]

    def get(self, barrier_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Barrier]:
        """See the port."""
        parameters = {"ids": dump_ids(barrier_ids), "namespace": self._namespace}
        found = [_decoded(row) for row in self._session.fetch(self._statements["get"], parameters)]
        return {barrier.id: barrier for barrier in found}

    def count_down(self, barrier_id: str, count: int, now: datetime) -> None:
        """So many members have succeeded. In a transaction that has the write lock, as `abort` is."""
        parameters = {"id": barrier_id, "count": count, "now": as_text(now)}
        self._follow_up(barrier_id, self._session.fetch(self._statements["count_down"], parameters), now)

    def abort(self, barrier_id: str, culprit_id: str, now: datetime) -> None:
        """A member has failed for good or was cancelled."""
        parameters = {"id": barrier_id, "culprit_id": culprit_id, "now": as_text(now)}
        self._follow_up(barrier_id, self._session.fetch(self._statements["abort"], parameters), now)

    def retain(self, *, before: datetime, limit: int) -> int:
        """Delete at most `limit` barriers that ended before this instant; return how many."""
        ids = self._session.fetch(self._statements["retain"], {"before": as_text(before), "limit": limit})
        for name in ("forget_plan", "forget"):
            self._session.each(self._statements[name], [{"id": one} for (one,) in ids])
        return len(ids)

    def _open(
        self,
        barrier_id: uuid.UUID,
        members: Sequence[NewMessage],
        callback: NewMessage | None,
        on_abort: NewMessage | None,
        now: datetime,
    ) -> None:
        barrier = {
            "id": barrier_id.hex,
            "namespace": self._namespace,
            "state": BarrierState.OPEN if members else BarrierState.DONE,
            "remaining": len(members),
            "callback_id": callback and callback.id and callback.id.hex,
            "now": as_text(now),
            "ended_at": None if members else as_text(now),
        }
        self._session.count(self._statements["open"], barrier)
        ids = self._messages.store(members, now=now, namespace=self._namespace, barrier_id=barrier_id)
        plan = {
            "id": barrier_id.hex,
            "member_ids": dump_json([str(one) for one in ids]),
            "callback": callback and dump_json(pack(callback)),
            "on_abort": on_abort and dump_json(pack(on_abort)),
        }
        self._session.count(self._statements["plan"], plan)
        if not members and callback:
            self._messages.store([callback], now=now, namespace=self._namespace)

    def _follow_up(self, barrier_id: str, changed: Sequence[Row], now: datetime) -> None:
        """Enqueue what follows, if this change has ended the barrier."""
        for namespace, state in changed:
            if state != BarrierState.OPEN:
                for callback, on_abort in self._session.fetch(self._statements["follow_up"], {"id": barrier_id}):
                    text = callback if state == BarrierState.DONE else on_abort
                    following = [] if text is None else read_callback(text, barrier_id=barrier_id)
                    self._messages.follow(following, now=now, namespace=namespace)


def _identified(message: NewMessage | None) -> NewMessage | None:
    return message if message is None or message.id else replace(message, id=uuid7())


def _decoded(row: Row) -> Barrier:
    return Barrier(
        id=uuid.UUID(row[0]),
        member_ids=[uuid.UUID(one) for one in json.loads(row[1])],
        remaining=row[2],
        state=BarrierState(row[3]),
        callback_id=load_id_or_none(row[4]),
        culprit_id=load_id_or_none(row[5]),
        created_at=as_instant(row[6]),
        ended_at=as_instant_or_none(row[7]),
    )
