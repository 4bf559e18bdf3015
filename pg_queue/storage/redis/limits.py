"""Buckets of tokens."""

from __future__ import annotations

from pg_queue.domain import ROUNDING, Grant, Json, RateLimit
from pg_queue.storage.redis.server import Server


class RedisLimits:
    """Implements `pg_queue.ports.Limits`."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._server, self._namespace = server, namespace

    def take(self, name: str, limit: RateLimit, *, wanted: int) -> Grant:
        """See the port."""
        count, wait = self._run("take", name, limit, wanted=wanted, burst=limit.burst, rounding=ROUNDING)
        return Grant(count=count, wait_seconds=float(wait) / 1e6)

    def give_back(self, name: str, limit: RateLimit, *, count: int) -> None:
        """See the port."""
        self._run("give_back", name, limit, count=count)

    def _run(self, operation: str, name: str, limit: RateLimit, **request: Json) -> Json:
        bucket = {"namespace": self._namespace, "name": name, "interval": limit.interval_seconds * 1e6}
        return self._server.run("limits", operation, **bucket, **request)
