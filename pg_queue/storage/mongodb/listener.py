"""Hears of messages that become due, by a change stream that a thread of its own waits on."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pg_queue.errors import QueueError
from pg_queue.storage.mongodb.server import Document, Server, wake_id

if TYPE_CHECKING:
    from pymongo.change_stream import CollectionChangeStream

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 5.0
HEARD, LOST = b"h", b"l"
"""What the thread writes into the pipe."""


class MongoListener:
    """Implements `pg_queue.ports.Listener`.

    The driver shows no descriptor of a change stream. So a thread reads the stream, and writes a byte into a pipe for
    each change; the pipe's other end is the descriptor.
    """

    def __init__(self, server: Server, namespace: str, queues: Sequence[str]) -> None:
        self._server = server
        self._pipeline = wakes_of(namespace, queues)
        self._stream: CollectionChangeStream[Document] | None = None
        self._reading_end: int | None = None
        self._retry_at = 0.0

    def fileno(self) -> int | None:
        """See the port."""
        return self._reading_end

    def connect(self) -> bool:
        """See the port. What was written before it returns True was heard by nobody."""
        if self._reading_end is not None or time.monotonic() < self._retry_at:
            return False
        self._retry_at = time.monotonic() + RECONNECT_SECONDS
        try:
            self._stream = self._server.watch(self._pipeline)
        except QueueError as error:
            logger.warning("worker.listen_failed the worker polls meanwhile; %s", error)
            return False
        self._reading_end, writing_end = os.pipe()
        os.set_blocking(self._reading_end, False)
        os.set_blocking(writing_end, False)
        reader = threading.Thread(target=_read, args=(self._stream, writing_end), name="mongodb-listener", daemon=True)
        reader.start()
        return True

    def hear(self) -> bool:
        """See the port."""
        if self._reading_end is None:
            return False
        try:
            told = os.read(self._reading_end, 65536)
        except BlockingIOError:
            return False
        if LOST in told or not told:
            logger.warning("worker.listen_lost the worker polls meanwhile")
            self.close()
        return True

    def close(self) -> None:
        """See the port. The thread ends by itself."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._reading_end is not None:
            os.close(self._reading_end)
            self._reading_end = None


def wakes_of(namespace: str, queues: Sequence[str]) -> list[dict[str, Any]]:
    """The pipeline of a change stream that shows when these queues may have work."""
    ids = [wake_id(namespace, queue) for queue in queues]
    return [{"$match": {"documentKey._id": {"$in": ids}}}, {"$project": {"_id": 1}}]


def _read(stream: CollectionChangeStream[Document], writing_end: int) -> None:
    """Write what the stream says into the pipe, until either is closed."""
    try:
        for _ in stream:
            _tell(writing_end, HEARD)
        _tell(writing_end, LOST)
    except Exception:  # noqa: BLE001 - whatever the driver raises, also for a stream that was closed meanwhile
        _tell(writing_end, LOST)
    finally:
        os.close(writing_end)


def _tell(writing_end: int, what: bytes) -> None:
    try:
        os.write(writing_end, what)
    except (BlockingIOError, BrokenPipeError):  # full: the other end has enough to hear; closed: nobody listens
        return
