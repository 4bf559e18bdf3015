"""A kombu channel on the queue's tables: what AMQP calls declare, bind, publish, consume, acknowledge."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from amqp.protocol import queue_declare_ok_t
from kombu.exceptions import ChannelError
from kombu.transport import base, virtual
from kombu.utils.uuid import uuid

from pg_queue.celery.control import note_command
from pg_queue.celery.transport.broker import encode_broadcast
from pg_queue.celery.transport.consumption import QUEUE
from pg_queue.celery.transport.holdings import Word

if TYPE_CHECKING:
    from pg_queue.celery.transport.transport import Transport

UNUSED_TTL_SECONDS = 60.0
"""How long a queue lives that deletes itself, when its consumer is gone without a word and it says nothing else."""


class QoS(virtual.QoS):  # type: ignore[misc]  # kombu has no types
    """What was delivered and not acknowledged. Words go to the connection's `Consumption`, from any thread."""

    channel: Channel

    def append(self, message: Any, delivery_tag: str) -> None:
        """It was handed over."""
        super().append(message, delivery_tag)
        self.channel.consumption.delivered(delivery_tag, message)

    def ack(self, delivery_tag: str) -> None:
        """Its consumer has dealt with it."""
        super().ack(delivery_tag)
        self.channel.consumption.say(delivery_tag, Word.ACK)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Its consumer does not want it: it goes back to its place, or becomes a dead letter."""
        message = self._delivered.get(delivery_tag)
        self._quick_ack(delivery_tag)
        if requeue and message is not None and self.channel.is_transient(self.channel.queue_of(message)):
            self.channel.requeue_broadcast(message)
        self.channel.consumption.say(delivery_tag, Word.REQUEUE if requeue else Word.DISCARD)

    def restore_unacked(self) -> list[Any]:
        """Give back all that was delivered and not acknowledged.

        After the server was lost, nothing: what the worker's pool still runs is held until it ends, by the keeper.
        """
        self._flush()
        consumption = self.channel.consumption
        while self._delivered:
            tag, _ = self._delivered.popitem()
            if not consumption.is_lost:
                consumption.holdings.say(tag, Word.REQUEUE)
        consumption.flush_quietly()
        return []


class Channel(virtual.Channel):  # type: ignore[misc]  # kombu has no types
    """See `kombu.transport.virtual.Channel`, whose exchanges and consumers these are."""

    QoS = QoS
    connection: Transport
    supports_fanout = True
    exchange_types = {**virtual.Channel.exchange_types, "fanout": virtual.exchange.FanoutExchange}
    from_transport_options = ()
    default_priority = None

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.consumption = connection.consumption
        self._declared: dict[str, dict[str, Any]] = {}
        self._no_ack_queues: set[str] = set()
        self._turn = 0

    # What the connection's consumption asks

    @property
    def active_queues(self) -> list[str]:
        """Queues with a consumer on this channel."""
        return list(dict.fromkeys(self._active_queues))

    @property
    def stored_queues(self) -> list[str]:
        """Those whose messages are rows that are claimed and acknowledged."""
        return [queue for queue in self.active_queues if not self.is_transient(queue)]

    @property
    def transient_queues(self) -> list[str]:
        """Those whose messages are gone when they were taken."""
        return [queue for queue in self.active_queues if self.is_transient(queue)]

    @property
    def expiring_queues(self) -> list[str]:
        """Those that go when nobody touches them."""
        return [queue for queue in self.active_queues if self._declared.get(queue, {}).get("ttl_seconds")]

    @property
    def capacity(self) -> int:
        """How many more messages its consumers may have."""
        if not self.qos.can_consume():
            return 0
        if not self.qos.prefetch_count:
            return 2**31
        return max(0, int(self.qos.can_consume_max_estimate()) - self.consumption.waiting_for(self))

    @property
    def is_half_empty(self) -> bool:
        """Whether its consumers may have half or more of what they may have in all."""
        return self.capacity * 2 >= (self.qos.prefetch_count or 1)

    def next_queues(self) -> list[str]:
        """Its stored queues in the order in which they are to be asked this time."""
        queues = self.stored_queues
        if self.connection.address.options.queue_order_strategy == "round_robin" and queues:
            self._turn = (self._turn + 1) % len(queues)
            return queues[self._turn :] + queues[: self._turn]
        return queues

    def is_transient(self, queue: str) -> bool:
        """Whether its messages are broadcasts: who declared it may have said so."""
        return bool(self._declared.get(queue, {}).get("is_transient"))

    def queue_of(self, message: Any) -> str:
        """The queue that a message was delivered from."""
        return str(message.delivery_info.get(QUEUE) or message.delivery_info.get("routing_key"))

    def decode_broadcast(self, text: str) -> dict[str, Any]:
        """A payload as `post` and `route` have kept it."""
        payload: dict[str, Any] = json.loads(text)
        return payload

    def requeue_broadcast(self, message: Any) -> None:
        """Put a broadcast back, for its queue alone."""
        self.consumption.broker.post(self.queue_of(message), encode_broadcast(message.serializable()))

    # Queues

    def queue_declare(self, queue: str | None = None, passive: bool = False, **kwargs: Any) -> queue_declare_ok_t:
        """See AMQP. With `passive` only look whether it is there. Raises: ChannelError 404, 405."""
        queue = queue or f"amq.gen-{uuid()}"
        if passive:
            if not self._has_queue(queue):
                vhost = self.connection.client.virtual_host or "/"
                raise ChannelError(
                    f"NOT_FOUND - no queue {queue!r} in vhost {vhost!r}", (50, 10), "Channel.queue_declare", 404
                )
        else:
            self._new_queue(queue, **kwargs)
        return queue_declare_ok_t(queue, self._size(queue), 0)

    def prepare_queue_arguments(self, arguments: Mapping[str, Any], **kwargs: Any) -> Mapping[str, Any]:
        """A queue's time to live travels as RabbitMQ's argument."""
        prepared: Mapping[str, Any] = base.to_rabbitmq_queue_arguments(arguments, **kwargs)
        return prepared

    def queue_bind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """See AMQP. Bindings are every process's."""
        exchange = exchange or "amq.direct"
        self.state.exchanges.setdefault(exchange, _exchange("direct"))
        super().queue_bind(queue, exchange, routing_key or "", arguments, **kwargs)
        self._bind(queue, exchange, routing_key or "")

    def _queue_bind(self, exchange: str, routing_key: str, pattern: object, queue: str) -> None:
        """Kombu's hook for the first time that a connection binds; `queue_bind` does it each time."""

    def queue_unbind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """See AMQP."""
        super().queue_unbind(queue, exchange, routing_key or "", arguments, **kwargs)
        self.connection.forget_declared(("bind", queue, exchange, routing_key or ""))
        self.consumption.broker.unbind(queue, exchange or "amq.direct", routing_key or "")

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        """See AMQP."""
        if if_empty and self._size(queue):
            return
        self._purge(queue)
        self.state.queue_bindings_delete(queue)
        self.consumption.broker.delete(queue)
        self._declared.pop(queue, None)
        self.consumption.disown(queue)
        self.connection.forget_declared(("queue", queue))

    def list_bindings(self) -> Iterator[tuple[str, str, str]]:
        """Queue, exchange and routing key of every binding, whoever made it."""
        yield from self.consumption.broker.bindings()

    def declare_again(self, queue: str) -> None:
        """Write a queue and its bindings down once more: it was swept while this process was frozen."""
        if queue not in self._declared:
            return
        self._write_down(queue)
        for exchange, routing_key, _ in list(self.state.queue_bindings(queue)):
            self._bind(queue, exchange, routing_key)

    def _new_queue(
        self,
        queue: str,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        expires = (arguments or {}).get("x-expires")
        is_passing = exclusive or auto_delete
        ttl = float(expires) / 1000 if expires else UNUSED_TTL_SECONDS if is_passing else None
        declared = {
            "is_transient": bool(exclusive or (auto_delete and not durable)),
            "is_exclusive": bool(exclusive),
            "ttl_seconds": ttl,
        }
        if self._declared.get(queue) != declared:
            self._own(queue, exclusive)
        self._declared[queue] = declared
        if ttl is not None or self.connection.is_new(("queue", queue)):
            self._write_down(queue)

    def _write_down(self, queue: str) -> None:
        self.consumption.broker.declare(queue, **self._declared[queue])

    def _own(self, queue: str, exclusive: bool) -> None:
        if not exclusive or not self.consumption.session.is_direct:
            return
        if not self.consumption.own(queue):
            raise ChannelError(
                f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue {queue!r}",
                (50, 10),
                "Channel.queue_declare",
                405,
            )

    def _bind(self, queue: str, exchange: str, routing_key: str) -> None:
        kind = self.typeof(exchange)
        is_lasting = self._declared.get(queue, {}).get("ttl_seconds") is None
        if is_lasting and not self.connection.is_new(("bind", queue, exchange, routing_key)):
            return
        _, pattern, _ = kind.prepare_bind(queue, exchange, routing_key, None)
        self.consumption.broker.bind(queue, exchange, kind.type, routing_key, pattern or "")

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return self.consumption.broker.exists(queue)

    def _size(self, queue: str) -> int:
        return self.connection.publisher.size(queue)

    def _purge(self, queue: str) -> int:
        """What somebody waits for is cancelled, so that they learn it; the rest is deleted."""
        count = self.consumption.broker.purge(queue)
        while waiting := self.consumption.broker.waiting(queue):
            cancelled = len(self.consumption.store.cancel(waiting, reason="its queue was purged"))
            count += cancelled
            if not cancelled:
                break
        return count

    # Publishing

    def basic_publish(self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any) -> None:
        """Store it in the queue, or in those that the exchange leads to."""
        message["properties"]["delivery_info"].update(exchange=exchange, routing_key=routing_key)
        publish = self.connection.publisher.publish
        if exchange:
            for queue in self._routed(message, exchange, routing_key):
                publish(queue, message)
            note_command(self.consumption.store, exchange, message["body"])
        elif "task" in (message["headers"] or {}) or not self.consumption.broker.post(routing_key, self._text(message)):
            publish(routing_key, message)

    def _routed(self, message: dict[str, Any], exchange: str, routing_key: str) -> list[str]:
        return self.consumption.broker.route(exchange, routing_key or "", self._text(message))

    def _text(self, message: dict[str, Any]) -> str:
        """A payload as text; a body that is no text is encoded."""
        body, encoding = message["body"], None
        if isinstance(body, bytes):
            try:
                body = body.decode()
            except UnicodeDecodeError:
                body, encoding = self.encode_body(body, "base64")
        properties = {**message["properties"], "body_encoding": encoding}
        return encode_broadcast({**message, "body": body, "properties": properties})

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        self.basic_publish(message, "", queue)

    # Consuming

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> None:
        """See AMQP. Without acknowledgement, a message is dealt with when it is handed over."""
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        self._know(queue)
        handle = self.connection._callbacks[queue]

        def deliver(payload: dict[str, Any]) -> Any:
            if no_ack:
                self.consumption.say(payload["properties"]["delivery_tag"], Word.ACK)
            return handle(payload)

        self.connection._callbacks[queue] = deliver
        self.consumption.consumers_changed()

    def basic_cancel(self, consumer_tag: str) -> None:
        """See AMQP. What was fetched for it and not handed over goes back."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is not None and queue not in self._active_queues:
            self.consumption.drop(self, queue)
        self.consumption.consumers_changed()

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """One message, or None."""
        self._know(queue)
        payload = self.consumption.get(self, queue)
        if payload is None:
            return None
        message = self.Message(payload, channel=self)
        if no_ack:
            self.consumption.say(message.delivery_tag, Word.ACK)
        else:
            self.qos.append(message, message.delivery_tag)
        return message

    def basic_recover(self, requeue: bool = False) -> Any:
        """See AMQP: give back all that is not acknowledged."""
        restored = super().basic_recover(requeue=requeue)
        self.consumption.flush()
        return restored

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """As kombu does it, but that a priority of 0 is one, and none is none."""
        properties = properties or {}
        properties.setdefault("priority", priority)
        prepared: dict[str, Any] = super().prepare_message(
            body, None, content_type, content_encoding, headers, properties
        )
        return prepared

    def _know(self, queue: str) -> None:
        """A queue that somebody else has declared: as they have."""
        if queue not in self._declared:
            self._declared[queue] = self.consumption.broker.look_up(queue)


def _exchange(kind: str) -> dict[str, Any]:
    return {"type": kind, "durable": True, "auto_delete": False, "arguments": {}, "table": []}
