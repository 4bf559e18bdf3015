"""Named locks."""

from __future__ import annotations

import uuid
from datetime import timedelta

from pg_queue.domain import Json
from pg_queue.storage.instants import microseconds
from pg_queue.storage.redis.server import Server


class RedisLocks:
    """Implements `pg_queue.ports.Locks`."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server, self._namespace = server, namespace

    def acquire(self, name: str, *, ttl: timedelta) -> uuid.UUID | None:
        """See the port."""
        owner = uuid.uuid4()
        return owner if self._run("acquire", name, owner, ttl=microseconds(ttl)) else None

    def extend(self, name: str, owner: uuid.UUID, *, ttl: timedelta) -> bool:
        """See the port."""
        return self._run("extend", name, owner, ttl=microseconds(ttl))

    def release(self, name: str, owner: uuid.UUID) -> bool:
        """See the port."""
        return self._run("release", name, owner)

    def _run(self, operation: str, name: str, owner: uuid.UUID, **request: Json) -> bool:
        return bool(
            self._server.run("locks", operation, namespace=self._namespace, name=name, owner=owner.hex, **request)
        )
