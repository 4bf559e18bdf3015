"""The listener, told by a change stream that the test writes."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator
from typing import Any

import pytest

from pg_queue.errors import StoreUnavailable
from pg_queue.storage.mongodb.listener import MongoListener
from tests.contract.actions import hears, is_readable

WAIT_SECONDS = 30


class Stream:
    """Shows each change that is put into it; ends where None is, and fails where an exception is."""

    def __init__(self) -> None:
        self.changes: queue.Queue[Any] = queue.Queue()
        self.is_closed = False

    def __iter__(self) -> Iterator[Any]:
        while (change := self.changes.get(timeout=WAIT_SECONDS)) is not None:
            if isinstance(change, Exception):
                raise change
            yield change

    def close(self) -> None:
        self.is_closed = True
        self.changes.put(None)


class FakeServer:
    """Opens streams, or fails to."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.error: Exception | None = None

    def watch(self, pipeline: Any) -> Stream:
        if self.error is not None:
            raise self.error
        self.streams.append(Stream())
        return self.streams[-1]


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def listener(server: FakeServer) -> Iterator[MongoListener]:
    found = MongoListener(server, "", ["a"])  # type: ignore[arg-type]
    assert found.connect()
    yield found
    found.close()


def test_a_change_makes_the_descriptor_readable_until_it_is_heard(server: FakeServer, listener: MongoListener) -> None:
    assert not listener.hear()
    server.streams[0].changes.put({"_id": 1})
    assert hears(listener, WAIT_SECONDS)
    assert not is_readable(listener, 0)
    assert not listener.hear()


def test_a_stream_that_fails_is_work_to_look_for_and_a_connection_to_open_again(
    server: FakeServer, listener: MongoListener, caplog: pytest.LogCaptureFixture
) -> None:
    server.streams[0].changes.put(OSError("gone"))
    with caplog.at_level(logging.WARNING):
        assert hears(listener, WAIT_SECONDS)
    assert listener.fileno() is None
    assert "worker.listen_lost" in caplog.text
    assert not listener.connect(), "not before its time"
    listener._retry_at = 0
    assert listener.connect()


def test_closing_ends_the_stream(server: FakeServer, listener: MongoListener) -> None:
    listener.close()
    assert server.streams[0].is_closed
    assert listener.fileno() is None
    assert not listener.hear()


def test_a_server_that_is_away_raises_nothing(server: FakeServer) -> None:
    server.error = StoreUnavailable("away")
    found = MongoListener(server, "", ["a"])  # type: ignore[arg-type]
    assert not found.connect()
    assert found.fileno() is None
