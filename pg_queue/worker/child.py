"""A child process: runs the messages that it is handed, one at a time, until its channel to the worker ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from pg_queue.domain import Message
from pg_queue.worker.wire import Frames, frame, packed_outcome, unpacked

RUN, RECALL = "run", "recall"
READY, DONE, RETURNED = "ready", "done", "returned"

RECEIVE_BYTES = 1 << 16

Handed = tuple[int, Message]
"""A message, and the number of the token that it was claimed with: what child and worker name it by to each other."""


class Inbox:
    """What was handed over and has not begun.

    Taken back as a whole: what the worker gets back never surrounds a message that the other thread has just begun, so
    reports stay in the order of assignment.
    """

    def __init__(self) -> None:
        self._messages: deque[Handed] = deque()
        self._changed = threading.Condition()

    def put(self, messages: Iterable[Handed]) -> None:
        """Add messages behind the others."""
        with self._changed:
            self._messages.extend(messages)
            self._changed.notify()

    def get(self) -> Handed:
        """Take the oldest one out; waits for one."""
        with self._changed:
            while not self._messages:
                self._changed.wait()
            return self._messages.popleft()

    def take_back(self) -> list[Handed]:
        """Take all of them out at once."""
        with self._changed:
            messages = list(self._messages)
            self._messages.clear()
            return messages


def main(channel: socket.socket) -> None:
    """Run messages from `channel`; never returns. Leads a process group of its own, which ends with it."""
    _settle_in()
    from pg_queue.worker.execution import outcome_of

    inbox = Inbox()
    sending, own_pid = threading.Lock(), os.getpid()

    def send(*values: Any) -> None:
        with sending:
            channel.sendall(frame(values))

    threading.Thread(target=_listen, args=(channel, inbox, send), name="channel", daemon=True).start()
    send(READY)
    while True:
        token, message = inbox.get()
        outcome = outcome_of(message)
        if os.getpid() != own_pid:
            os._exit(0)  # the task forked and came back twice: only the original may report
        send(DONE, token, packed_outcome(outcome))


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


def _listen(channel: socket.socket, inbox: Inbox, send: Any) -> None:
    frames = Frames()
    try:
        while data := _receive(channel):
            for kind, *values in frames.feed(data):
                if kind == RUN:
                    inbox.put(unpacked(packed) for packed in values[0])
                elif kind == RECALL:
                    send(RETURNED, [token for token, _ in inbox.take_back()])
    finally:
        # The worker is gone, or done with this child. Whatever the task has started goes too.
        os.killpg(0, signal.SIGKILL)


def _receive(channel: socket.socket) -> bytes:
    try:
        return channel.recv(RECEIVE_BYTES)
    except ConnectionError:
        return b""
