"""Fan-out and fan-in: a counter of the members that are missing, and what follows when none is, or one has failed.

The counter is one row, which each batch of settlements updates once; what is written once is a row beside it. So the
cost is linear in the number of members.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC

from pg_queue.domain import Barrier, BarrierState, NewMessage
from pg_queue.errors import InvalidMessage
from pg_queue.sql import statements
from pg_queue.storage.parcels import pack
from pg_queue.storage.postgres.connection import StoreConnection
from pg_queue.storage.postgres.enqueueing import Enqueueing
from pg_queue.storage.rows import Row, encode_json
from pg_queue.uuid7 import uuid7


class PostgresBarriers:
    """Implements `pg_queue.ports.Barriers`."""

    def __init__(self, connection: StoreConnection, namespace: str, enqueueing: Enqueueing) -> None:
        self._connection, self._namespace, self._enqueueing = connection, namespace, enqueueing
        self._statements = statements("barriers")

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
        barrier_id, called_back = id or uuid7(), callback and replace(callback, id=callback.id or uuid7())
        with self._connection.atomic():
            member_ids = self._enqueueing.enqueue_whole(members, barrier_id=barrier_id)
            parameters = {
                "id": barrier_id,
                "namespace": self._namespace,
                "callback_id": called_back and called_back.id,
                "member_ids": json.dumps([str(one) for one in member_ids]),
                "callback": called_back and encode_json(pack(called_back)),
                "on_abort": on_abort and encode_json(pack(on_abort)),
            }
            self._connection.count(self._statements["create"], parameters)
            if called_back and not members:
                self._enqueueing.enqueue([called_back])
            return self.get([barrier_id])[barrier_id]

    def get(self, barrier_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Barrier]:
        """See the port."""
        parameters = {"namespace": self._namespace, "ids": list(barrier_ids)}
        found = [_decode(row) for row in self._connection.fetch(self._statements["get"], parameters)]
        return {barrier.id: barrier for barrier in found}

    def tell(self, told: Mapping[uuid.UUID, tuple[int, uuid.UUID | None]]) -> list[tuple[uuid.UUID, str, str]]:
        """Count members that have succeeded, and abort where there is a culprit; in the transaction of their ends.

        Of any namespace. Returns what is to be enqueued now: barrier, namespace, and a parcel as JSON text.
        """
        if not told:
            return []
        parameters = {
            "ids": list(told),
            "succeeded": [succeeded for succeeded, _ in told.values()],
            "culprits": [culprit for _, culprit in told.values()],
        }
        rows = self._connection.fetch(self._statements["count_down"], parameters)
        return [(barrier_id, namespace, parcel) for barrier_id, namespace, parcel in rows if parcel is not None]

    def retain(self, *, ttl_seconds: float, limit: int) -> int:
        """Delete at most `limit` barriers, of all namespaces, that ended so long ago; return how many."""
        return self._connection.count(self._statements["retain"], {"ttl": ttl_seconds, "limit": limit})


def _decode(row: Row) -> Barrier:
    return Barrier(
        id=row[0],
        member_ids=[uuid.UUID(one) for one in json.loads(row[1])],
        remaining=row[2],
        state=BarrierState(row[3]),
        callback_id=row[4],
        culprit_id=row[5],
        created_at=row[6].astimezone(UTC),
        ended_at=row[7] and row[7].astimezone(UTC),
    )
