"""The store: the contract's operations, each by its script."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any

from pg_queue.domain import (
    Capability,
    Claim,
    Death,
    Message,
    NewMessage,
    Progress,
    Settled,
    Settlement,
)
from pg_queue.errors import InvalidMessage
from pg_queue.settings import QueueSettings, StoreSettings
from pg_queue.storage.capable import Capable
from pg_queue.storage.failures import unreadable
from pg_queue.storage.instants import microseconds
from pg_queue.storage.redis import encoding
from pg_queue.storage.redis.barriers import RedisBarriers
from pg_queue.storage.redis.limits import RedisLimits
from pg_queue.storage.redis.listener import RedisListener
from pg_queue.storage.redis.locks import RedisLocks
from pg_queue.storage.redis.operations import RedisOperations
from pg_queue.storage.redis.outbox import RedisOutbox
from pg_queue.storage.redis.server import Server
from pg_queue.storage.redis.switches import RedisSwitches
from pg_queue.storage.redis.workers import RedisWorkers
from pg_queue.storage.rows import Depth
from pg_queue.uuid7 import uuid7

Pair = tuple[uuid.UUID, uuid.UUID]


class RedisStore(Capable):
    """Implements `pg_queue.ports.QueueStore`. Each call is one script: a transaction of its own."""

    capabilities = frozenset(Capability) - {Capability.TRANSACTIONS, Capability.SET_ENQUEUE}

    def __init__(self, conf: QueueSettings, place: StoreSettings, server: Server | None = None) -> None:
        """`server`: one that is shared with the store of another namespace. Raises: Configuration."""
        super().__init__(place)
        self._conf, self._settings = conf, place
        self._server = server or Server(place)
        self._spaces: dict[str, RedisStore] = {self.namespace: self}
        self._ttl = microseconds(conf.result_ttl_seconds)
        self.workers = RedisWorkers(self._server, self.namespace)

    @property
    def place(self) -> str:
        """See the port."""
        return f"Redis at {self._server.label}"

    @cached_property
    def barriers(self) -> RedisBarriers:
        """See the port."""
        return RedisBarriers(self._server, self.namespace, self._conf)

    @cached_property
    def outbox(self) -> RedisOutbox:
        """See the port."""
        return RedisOutbox(self._server, self.namespace)

    @cached_property
    def switches(self) -> RedisSwitches:
        """See the port."""
        return RedisSwitches(self._server, self.namespace)

    @cached_property
    def locks(self) -> RedisLocks:
        """See the port."""
        return RedisLocks(self._server, self.namespace)

    @cached_property
    def limits(self) -> RedisLimits:
        """See the port."""
        return RedisLimits(self._server, self.namespace)

    @cached_property
    def operations(self) -> RedisOperations:
        """See the port."""
        return RedisOperations(self._server, self.namespace, self._conf)

    def within(self, namespace: str) -> RedisStore:
        """See the port. On the same connections."""
        if namespace not in self._spaces:
            found = RedisStore(self._conf, self._settings.within(namespace), self._server)
            found._spaces = self._spaces
            self._spaces[namespace] = found
        return self._spaces[namespace]

    def listen(self, queues: Sequence[str]) -> RedisListener:
        """See the port."""
        return RedisListener(self._server, self.namespace, queues)

    def enqueue(self, messages: Sequence[NewMessage]) -> list[uuid.UUID]:
        """See the port. Raises: InvalidMessage (field `id`) for an id that waits or runs already."""
        if not messages:
            return []
        parcels = [encoding.parcel(message, self._conf, id=message.id or uuid7()) for message in messages]
        taken, *ids = self._run("enqueue", "enqueue", parcels=parcels)
        if taken:
            expected = "an id that no message has which waits or runs"
            raise InvalidMessage(field="id", expected=expected, got=str(uuid.UUID(taken)))
        return [uuid.UUID(one) for one in ids]

    def claim(self, *, queues: Sequence[str], limit: int, lease: timedelta, worker: str) -> list[Claim]:
        """See the port."""
        rows = self._run(
            "claim",
            "claim",
            queues=list(queues),
            limit=limit,
            lease=microseconds(lease),
            worker=worker,
            result_ttl=self._ttl,
            **self._fairness(),
        )
        claims, deaths = [], []
        for row in rows:
            try:
                claims.append(encoding.decode_claim(row))
            except encoding.UNREADABLE as error:
                deaths.append(_unreadable(row, error))
        self.settle(deaths)
        return claims

    def renew(self, claims: Sequence[Pair], *, lease: timedelta) -> set[uuid.UUID]:
        """See the port."""
        return self._touch("renew", claims, lease=microseconds(lease))

    def release(self, claims: Sequence[Pair]) -> set[uuid.UUID]:
        """See the port."""
        return self._touch("release", claims)

    def note_progress(self, reports: Sequence[tuple[uuid.UUID, uuid.UUID, Progress]]) -> set[uuid.UUID]:
        """See the port."""
        packed = [[i.hex, token.hex, encoding.encode([p.done, p.total, p.stage])] for i, token, p in reports]
        return _uuids(self._run("settle", "note_progress", reports=packed) if packed else [])

    def settle(self, settlements: Sequence[Settlement]) -> dict[uuid.UUID, Settled]:
        """See the port."""
        if not settlements:
            return {}
        packed = [encoding.settlement(one, self._conf.result_ttl_seconds) for one in settlements]
        answers = self._run("settle", "settle", settlements=packed)
        return {one.token: Settled(answer) for one, answer in zip(settlements, answers, strict=True)}

    def expire_claims(self, *, limit: int) -> int:
        """See the port."""
        return int(self._run("settle", "expire", limit=limit, result_ttl=self._ttl))

    def overdue_seconds(self) -> float:
        """See the port."""
        return int(self._run("settle", "overdue")) / 1e6

    def cancel(self, message_ids: Sequence[uuid.UUID], *, reason: str = "") -> set[uuid.UUID]:
        """See the port."""
        ids = [one.hex for one in message_ids]
        return _uuids(self._run("settle", "cancel", ids=ids, reason=reason, result_ttl=self._ttl) if ids else [])

    def get(self, message_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Message]:
        """See the port. What an outcome does not keep is empty: its args and kwargs."""
        ids = [one.hex for one in message_ids]
        rows = self._run("reading", "get", ids=ids) if ids else []
        return {message.id: message for message in encoding.readable(rows)}

    def take_outcomes(self, report_to: str, *, limit: int, hold: timedelta = timedelta(0)) -> list[Message]:
        """See the port."""
        rows = self._run("outcomes", "take", report_to=report_to, limit=limit, hold=microseconds(hold.total_seconds()))
        return list(encoding.readable(rows))

    def confirm_outcomes(self, report_to: str, outcomes: Sequence[Message]) -> None:
        """See the port."""
        told = [[one.id.hex, encoding.from_instant(one.finished_at)] for one in outcomes if one.finished_at]
        if told:
            self._run("outcomes", "confirm", report_to=report_to, told=told)

    def retain(self, *, limit: int) -> int:
        """See the port."""
        dead_letter_ttl = microseconds(self._conf.dead_letter_ttl_seconds)
        return int(self._run("outcomes", "retain", limit=limit, result_ttl=self._ttl, dead_letter_ttl=dead_letter_ttl))

    def replay(self, message_ids: Sequence[uuid.UUID], *, keep_attempts: bool = False) -> set[uuid.UUID]:
        """See the port."""
        ids, key_ttl = [one.hex for one in message_ids], microseconds(self._conf.key_ttl_seconds)
        asked = {"ids": ids, "key_ttl": key_ttl, "keep_attempts": keep_attempts}
        return _uuids(self._run("outcomes", "replay", **asked) if ids else [])

    def depths(self) -> list[Depth]:
        """See the port."""
        return [
            Depth(
                queue=queue,
                waiting=waiting,
                delayed=delayed,
                running=running,
                dead=dead,
                oldest_due_seconds=int(age) / 1e6,
            )
            for queue, waiting, delayed, running, dead, age in self._run("reading", "depths")
        ]

    def next_due_seconds(self, queues: Sequence[str]) -> float | None:
        """See the port."""
        microseconds = self._run("claim", "next_due", queues=list(queues), lease=0, **self._fairness())
        return None if microseconds is None else int(microseconds) / 1e6

    def _touch(self, operation: str, claims: Sequence[Pair], **request: Any) -> set[uuid.UUID]:
        pairs = [[message_id.hex, token.hex] for message_id, token in claims]
        return _uuids(self._run("settle", operation, claims=pairs, **request) if pairs else [])

    def _fairness(self) -> dict[str, Any]:
        turns = self._conf.turns
        return {
            "aging": microseconds(self._conf.aging_seconds),
            "weights": dict(turns.weights),
            "default_weight": turns.default_weight,
            "caps": dict(turns.most_by_name),
            "default_cap": turns.most_of_each or False,
        }

    def _run(self, topic: str, operation: str, **request: Any) -> Any:
        return self._server.run(topic, operation, namespace=self.namespace, seed=uuid.uuid4().hex, **request)


def _unreadable(row: encoding.Row, error: Exception) -> Settlement:
    message_id, token = encoding.claim_key(row)
    return Settlement(message_id=message_id, token=token, outcome=Death(failure=unreadable(error)))


def _uuids(texts: Iterable[str]) -> set[uuid.UUID]:
    return {uuid.UUID(text) for text in texts}
