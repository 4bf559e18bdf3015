"""Hears of messages that become due, by a subscription on a connection of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pg_queue.errors import QueueError
from pg_queue.storage.redis.server import Server

if TYPE_CHECKING:
    from redis.client import PubSub

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 5.0


class RedisListener:
    """Implements `pg_queue.ports.Listener`."""

    def __init__(self, server: Server, namespace: str, queues: Sequence[str]) -> None:
        self._server, self._queues = server, frozenset(queues)
        self._channel = f"{server.prefix}:wake:{namespace}"
        self._subscription: PubSub | None = None
        self._retry_at = 0.0

    def fileno(self) -> int | None:
        """See the port."""
        connection = getattr(self._subscription, "connection", None)
        sock = getattr(connection, "_sock", None)  # redis-py shows it nowhere else
        return None if sock is None else int(sock.fileno())

    def connect(self) -> bool:
        """See the port. What was sent before it returns True was heard by nobody."""
        if self._subscription is not None or time.monotonic() < self._retry_at:
            return False
        self._retry_at = time.monotonic() + RECONNECT_SECONDS
        try:
            self._subscription = self._server.subscribe(self._channel)
        except QueueError as error:
            logger.warning("worker.listen_failed the worker polls meanwhile; %s", error)
            return False
        return True

    def hear(self) -> bool:
        """See the port."""
        if self._subscription is None:
            return False
        heard = False
        try:
            with self._server.errors():
                while (notice := self._subscription.get_message(timeout=0)) is not None:
                    heard |= notice["data"] in self._queues
        except QueueError as error:
            logger.warning("worker.listen_lost the worker polls meanwhile; %s", error)
            self.close()
            return True
        return heard

    def close(self) -> None:
        """See the port."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
