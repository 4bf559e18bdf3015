"""Kombu on the test database: connections whose own sessions see what was committed, so every test commits."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue

from pg_queue.celery.transport import transport as transport_module

_names = itertools.count(1)
Connect = Callable[..., Connection]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens connections to `downbeat://`, and closes them. Options are the transport's."""
    opened: list[Connection] = []
    transport_module._declared.clear()  # the database was emptied, of which this process knows nothing

    def open_one(url: str = "downbeat://", **options: Any) -> Connection:
        opened.append(Connection(url, transport_options={"polling_interval": 0.1, **options}))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.release()


@pytest.fixture
def name() -> str:
    """A queue's name that no other test has."""
    return f"q{os.getpid()}.{next(_names)}"


class Got(list[Any]):
    """Bodies that a consumer got; `messages` are kombu's own."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Any] = []

    def __call__(self, body: Any, message: Any) -> None:
        self.append(body)
        self.messages.append(message)


def consumer_of(connection: Connection, *queues: Queue, prefetch: int = 0, **options: Any) -> tuple[Consumer, Got]:
    """A consumer that has begun, and what it gets; it acknowledges nothing."""
    got = Got()
    consumer = Consumer(connection.channel(), list(queues), callbacks=[got], **options)
    if prefetch:
        consumer.qos(prefetch_count=prefetch)
    consumer.consume()
    return consumer, got


def drain(connection: Connection, got: list[Any], count: int, *, seconds: float = 20) -> None:
    """Hand messages over until there are `count`. Raises: TimeoutError."""
    while len(got) < count:
        connection.drain_events(timeout=seconds)


def drain_all(connection: Connection, *, seconds: float = 0.3) -> None:
    """Hand over whatever comes, until nothing has come for so long."""
    try:
        while True:
            connection.drain_events(timeout=seconds)
    except TimeoutError:
        return
