"""A child process: runs the messages that it is handed, one at a time, until its channel to the worker ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
from queue import Empty, SimpleQueue
from typing import Any

from pg_queue.domain import Message
from pg_queue.worker.wire import Frames, frame, unpacked

RUN, RECALL = "run", "recall"
READY, DONE, RETURNED = "ready", "done", "returned"

RECEIVE_BYTES = 1 << 16


def main(channel: socket.socket) -> None:
    """Run messages from `channel`; never returns. Leads a process group of its own, which ends with it."""
    _settle_in()
    from pg_queue.worker.execution import outcome_of

    inbox: SimpleQueue[Message] = SimpleQueue()
    sending = threading.Lock()

    def send(*values: Any) -> None:
        with sending:
            channel.sendall(frame(values))

    threading.Thread(target=_listen, args=(channel, inbox, send), name="channel", daemon=True).start()
    send(READY)
    while True:
        message = inbox.get()
        send(DONE, message.id, outcome_of(message))


def _settle_in() -> None:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, stack: None)  # the worker decides; see preload
    from django.apps import apps

    if not apps.ready:
        import django

        django.setup()
    from django.db import connections

    connections.close_all()


def _listen(channel: socket.socket, inbox: SimpleQueue[Message], send: Any) -> None:
    frames = Frames()
    try:
        while data := _receive(channel):
            for kind, *values in frames.feed(data):
                if kind == RUN:
                    for packed in values[0]:
                        inbox.put(unpacked(packed))
                elif kind == RECALL:
                    send(RETURNED, _take_back(inbox))
    finally:
        # The worker is gone, or done with this child. Whatever the task has started goes too.
        os.killpg(0, signal.SIGKILL)


def _receive(channel: socket.socket) -> bytes:
    try:
        return channel.recv(RECEIVE_BYTES)
    except ConnectionError:
        return b""


def _take_back(inbox: SimpleQueue[Message]) -> list[Any]:
    ids = []
    while True:
        try:
            ids.append(inbox.get_nowait().id)
        except Empty:
            return ids
