"""A connection in a worker's event loop: what its pool says one by one costs few statements, and waits but an instant.

The loop here is the part of kombu's that a transport uses; its one turn is done by hand.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Producer, Queue

from pg_queue.celery.transport import consumption as consuming
from pg_queue.models import Message
from tests.pg_queue.celery.transport.conftest import Connect, consumer_of

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.postgresql("the transport is on PostgreSQL alone"),
]
PREFETCH = 10


class Loop:
    """See `kombu.asynchronous.hub.Hub`."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}
        self.writers: dict[int, Callable[[], None]] = {}
        self.on_tick: set[Callable[[], None]] = set()

    def add_reader(self, source: Any, call: Callable[[], None]) -> None:
        self.readers[source if isinstance(source, int) else source.fileno()] = call

    def remove(self, fd: int) -> None:
        self.readers.pop(fd, None)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        class Timer:
            def cancel(self) -> None:
                pass

        return Timer()


class Served:
    """A consumer of `PREFETCH` messages in such a loop, and a pool that may have something to say."""

    def __init__(self, connection: Any, queue: str) -> None:
        with connection.channel() as channel:
            for number in range(3 * PREFETCH):
                Producer(channel).publish(number, routing_key=queue)
        self.consumer, self.got = consumer_of(connection, Queue(queue), prefetch=PREFETCH)
        self.loop, (self.pool, self.child) = Loop(), socket.socketpair()
        transport = connection.connection
        transport.register_with_event_loop(transport, self.loop)
        self.consumption = transport.consumption
        self.loop.add_reader(self.pool, lambda: None)
        self.turn()

    def turn(self) -> None:
        """One turn of the loop, as far as it is the connection's."""
        for tick in list(self.loop.on_tick):
            tick()
        self.loop.readers[self.consumption.waker.fileno()]()

    def acknowledge(self, count: int) -> None:
        """As the worker does when its pool has begun so many."""
        for _ in range(count):
            self.got.messages.pop(0).ack()


@pytest.fixture
def served(connect: Connect, name: str) -> Iterator[Served]:
    made = Served(connect(), name)
    assert len(made.got) == PREFETCH
    yield made
    made.pool.close()
    made.child.close()


def test_a_word_waits_while_the_pool_has_more_to_say(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "GATHER_SECONDS", 60)
    served.child.send(b"more")
    served.acknowledge(1)
    served.turn()
    assert (Message.objects.count(), len(served.got)) == (3 * PREFETCH, PREFETCH)
    served.acknowledge(PREFETCH // 2 - 1)  # so that half of what it may have is free: worth a statement
    served.turn()
    assert (Message.objects.count(), len(served.got)) == (3 * PREFETCH - PREFETCH // 2, PREFETCH + PREFETCH // 2)


def test_a_pool_that_goes_on_talking_keeps_nothing_waiting_for_long(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "GATHER_SECONDS", 0.2)
    served.child.send(b"more")
    served.acknowledge(1)
    served.turn()
    assert Message.objects.count() == 3 * PREFETCH
    time.sleep(0.2)
    served.turn()
    assert (Message.objects.count(), len(served.got)) == (3 * PREFETCH - 1, PREFETCH + 1)


def test_where_nothing_more_comes_the_turn_itself_waits(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "GATHER_SECONDS", 0.05)
    served.acknowledge(1)
    served.turn()
    assert (Message.objects.count(), len(served.got)) == (3 * PREFETCH - 1, PREFETCH + 1)


def test_an_idle_consumer_fetches_at_once(connect: Connect, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "GATHER_SECONDS", 60)
    made = Served(connect(), name)
    assert len(made.got) == PREFETCH
    made.pool.close()
    made.child.close()
