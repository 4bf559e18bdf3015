"""Redis as kombu uses it. Messages are taken by a script, in one step with the note that they are unacknowledged."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any

from kombu import Connection

from pg_queue.celery.draining.source import MOST_BYTES, BrokerUnavailable, Delivery, speaking

logger = logging.getLogger(__name__)

_SCRIPT = files("pg_queue.lua").joinpath("draining.lua").read_text(encoding="utf-8")
_DAY = 86400.0


class RedisSource:
    """Implements `pg_queue.celery.draining.source.Source`."""

    def __init__(self, connection: Connection, exchanges: Mapping[str, str]) -> None:
        """`exchanges`: types by name, by which what workers held is put back. Raises: as its methods."""
        self._connection = connection
        self._taken: dict[str, tuple[str, bytes]] = {}
        with speaking(self._connection):
            self._channel = connection.channel()
            self._client = self._channel.client
        for name, kind in exchanges.items():
            self._channel.exchange_declare(name, kind)  # in this process's memory alone
        self.remember_seconds = 7 * _DAY + 2 * self._channel.visibility_timeout

    def waiting(self, queue: str) -> int | None:
        """See the contract. Redis has no queues, only lists that are not empty."""
        with speaking(self._connection):
            return int(self._channel._size(queue))

    def held(self) -> int | None:
        """See the contract."""
        with speaking(self._connection):
            return max(0, int(self._client.hlen(self._channel.unacked_key)) - len(self._taken))

    def take(self, queue: str, *, limit: int) -> list[Delivery]:
        """See the contract."""
        with speaking(self._connection):
            taken, unreadable = self._call(self._lists(queue), "take", queue, limit, MOST_BYTES, time.time())
        for place, tag, message in taken:
            self._taken[tag.decode()] = (place.decode(), message)
        return [
            *(_delivery(queue, tag.decode(), message) for _, tag, message in taken),
            *(Delivery(queue=queue, tag=hashlib.sha256(message).hexdigest()) for _, message in unreadable),
        ]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract."""
        if not deliveries:
            return
        tags = [str(delivery.tag) for delivery in deliveries]
        with speaking(self._connection), self._client.pipeline() as pipe:
            pipe.zrem(self._channel.unacked_index_key, *tags).hdel(self._channel.unacked_key, *tags).execute()
        for tag in tags:
            self._taken.pop(tag, None)

    def tend(self) -> None:
        """See the contract: as each worker of Celery's does it, past the visibility timeout."""
        with speaking(self._connection):
            self._channel.qos.restore_visible(num=self._channel.unacked_restore_limit, interval=1)

    def close(self) -> None:
        """See the contract. What cannot be given back returns when the visibility timeout is over."""
        lists = {place for place, _ in self._taken.values()}
        try:
            for where in sorted(lists):
                kept = [(tag, message) for tag, (place, message) in self._taken.items() if place == where]
                with speaking(self._connection):
                    self._call([where], "give_back", "", *(part for one in kept for part in one))
        except BrokerUnavailable as error:
            logger.warning("draining.not_given_back messages=%s; %s", len(self._taken), error)
        self._taken.clear()
        with suppress(Exception):  # it is given up, whatever state it is in
            self._connection.release()

    def _lists(self, queue: str) -> list[str]:
        channel = self._channel
        names = dict.fromkeys(channel._q_for_pri(queue, step) for step in channel.priority_steps)
        return [f"{channel.global_keyprefix}{name}" for name in names]

    def _call(self, lists: Sequence[str], *arguments: Any) -> Any:
        prefix = self._channel.global_keyprefix
        keys = [f"{prefix}{self._channel.unacked_key}", f"{prefix}{self._channel.unacked_index_key}", *lists]
        return self._client.eval(_SCRIPT, len(keys), *keys, *arguments)


def _delivery(queue: str, tag: str, message: bytes) -> Delivery:
    payload = json.loads(message)
    properties = dict(payload["properties"])
    headers = payload.get("headers")
    if isinstance(headers, dict):  # `redelivered`: kombu's own mark of what was restored
        headers = {name: value for name, value in headers.items() if name != "redelivered"}
    properties["priority"] = _priority(properties.get("priority"))
    return Delivery(
        queue=queue,
        tag=tag,
        payload={
            "body": payload["body"],
            "content-type": payload.get("content-type"),
            "content-encoding": payload.get("content-encoding"),
            "headers": headers,
            "properties": properties,
        },
        has_own_tag=True,
    )


def _priority(value: object) -> int | None:
    """Kombu's priority at Redis, 0 (first, and what has none) to 9 (last), as RabbitMQ counts: the order stays.

    0 is none, so that what was sent without any has the usual one; what is behind that comes behind it.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        return None
    return 4 - -(-4 * min(value, 9) // 9)
