"""Fan-out and fan-in: a barrier is a hash, told of each end by the script that settles it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence

from pg_queue.domain import Barrier, BarrierState, NewMessage
from pg_queue.errors import InvalidMessage
from pg_queue.settings import QueueSettings
from pg_queue.storage.instants import to_instant
from pg_queue.storage.redis.encoding import UNREADABLE, Row, parcel
from pg_queue.storage.redis.server import Server
from pg_queue.uuid7 import uuid7


class RedisBarriers:
    """Implements `pg_queue.ports.Barriers`."""

    def __init__(self, server: Server, namespace: str, conf: QueueSettings) -> None:
        self._server, self._namespace, self._conf = server, namespace, conf

    def create(
        self,
        members: Sequence[NewMessage],
        *,
        callback: NewMessage | None = None,
        on_abort: NewMessage | None = None,
        id: uuid.UUID | None = None,
    ) -> Barrier:
        """See the port. Raises: InvalidMessage also for an id that is there already (field `id`)."""
        for member in members:
            if member.key is not None:
                raise InvalidMessage(field="key", expected="no key for the member of a barrier", got=member.key)
        barrier_id = id or uuid7()
        callback_id = None if callback is None else callback.id or uuid7()
        what, found = self._server.run(
            "barriers",
            "create",
            namespace=self._namespace,
            seed=uuid.uuid4().hex,
            id=barrier_id.hex,
            parcels=[parcel(member, self._conf, id=member.id or uuid7()) for member in members],
            callback=callback is not None and parcel(callback, self._conf, id=callback_id),
            on_abort=on_abort is not None and parcel(on_abort, self._conf),
            callback_id=callback_id.hex if callback_id else "",
        )
        if what != "created":
            raise InvalidMessage(field="id", expected=f"an id that no {what} has", got=str(uuid.UUID(found)))
        return self.get([barrier_id])[barrier_id]

    def get(self, barrier_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Barrier]:
        """See the port."""
        ids = [one.hex for one in barrier_ids]
        rows = self._server.run("barriers", "get", namespace=self._namespace, ids=ids) if ids else []
        return {barrier.id: barrier for barrier in _readable(rows)}


def _readable(rows: Iterable[Row]) -> Iterator[Barrier]:
    for row in rows:
        try:
            yield _decode(row)
        except UNREADABLE:  # what no operation has written is left alone
            continue


def _decode(row: Row) -> Barrier:
    id, members, remaining, state, callback_id, culprit_id, created_at, ended_at = row
    return Barrier(
        id=uuid.UUID(id),
        member_ids=[uuid.UUID(member) for member in members.split()],
        remaining=int(remaining),
        state=BarrierState(state),
        callback_id=uuid.UUID(callback_id) if callback_id else None,
        culprit_id=uuid.UUID(culprit_id) if culprit_id else None,
        created_at=to_instant(created_at),
        ended_at=to_instant(ended_at) if ended_at else None,
    )
