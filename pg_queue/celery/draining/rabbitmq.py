"""RabbitMQ, and whatever else speaks AMQP 0-9-1.

Messages are asked for one by one. A consumer would need a limit of what it may hold, which what is left
would use up.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from amqp.exceptions import NotFound
from kombu import Connection

from pg_queue.celery.draining.source import MOST_BYTES, Delivery, speaking

_OWN_PROPERTIES = {"content_type", "content_encoding", "application_headers"}


class RabbitSource:
    """Implements `pg_queue.celery.draining.source.Source`."""

    remember_seconds = 7 * 86400.0

    def __init__(self, connection: Connection) -> None:
        """Raises: as its methods."""
        self._connection = connection
        self._open: set[int] = set()
        with speaking(self._connection):
            self._channel = connection.channel()

    def waiting(self, queue: str) -> int | None:
        """See the contract. On a channel of its own: RabbitMQ closes the one that has asked for what there is not."""
        with speaking(self._connection):
            asking = self._connection.channel()
            try:
                count = int(asking.queue_declare(queue, passive=True).message_count)
            except NotFound:
                return None
            asking.close()
            return count

    def held(self) -> int | None:
        """See the contract: its management API would know."""
        return None

    def take(self, queue: str, *, limit: int) -> list[Delivery]:
        """See the contract."""
        found: list[Delivery] = []
        size = 0
        with speaking(self._connection):
            while len(found) < limit and size < MOST_BYTES:
                message = self._channel.basic_get(queue)
                if message is None:
                    break
                size += len(message.body)
                self._open.add(message.delivery_tag)
                found.append(_delivery(queue, message))
        return found

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """See the contract. All with one word where nothing older is held on the channel."""
        tags = {int(delivery.tag) for delivery in deliveries}
        if not tags:
            return
        with speaking(self._connection):
            if {tag for tag in self._open if tag <= max(tags)} == tags:
                self._channel.basic_ack(max(tags), multiple=True)
            else:
                for tag in sorted(tags):
                    self._channel.basic_ack(tag)
        self._open -= tags

    def tend(self) -> None:
        """See the contract: RabbitMQ sees by itself who vanishes."""

    def close(self) -> None:
        """See the contract. RabbitMQ puts back what a connection leaves unacknowledged."""
        with suppress(Exception):  # it is given up, whatever state it is in
            self._connection.release()


def _delivery(queue: str, message: Any) -> Delivery:
    properties = message.properties
    info = message.delivery_info
    own = {name: value for name, value in properties.items() if name not in _OWN_PROPERTIES}
    return Delivery(
        queue=queue,
        tag=message.delivery_tag,
        payload={
            "body": message.body if isinstance(message.body, str) else bytes(message.body),
            "content-type": properties.get("content_type"),
            "content-encoding": properties.get("content_encoding"),
            "headers": properties.get("application_headers"),
            "properties": {
                **own,
                "priority": properties.get("priority") or None,  # 0 is what kombu sends for none
                "delivery_info": {"exchange": info.get("exchange"), "routing_key": info.get("routing_key")},
            },
        },
        is_first=not info.get("redelivered"),
    )
