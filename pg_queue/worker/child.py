"""A child process: runs the messages that it is handed, one at a time, until its channel to the worker ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterable
from types import FrameType
from typing import Any

from pg_queue.domain import Message
from pg_queue.worker.wire import Frames, frame, packed_outcome, unpacked

RUN, RECALL, SOFT_LIMIT = "run", "recall", "soft_limit"
READY, DONE, RETURNED, TOO_LARGE, PROGRESS = "ready", "done", "returned", "too_large", "progress"

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
        self._is_closed = False

    def put(self, messages: Iterable[Handed]) -> list[Handed]:
        """Add messages behind the others; those that are refused: all of them, once it is closed."""
        with self._changed:
            if self._is_closed:
                return list(messages)
            self._messages.extend(messages)
            self._changed.notify()
            return []

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

    def close(self) -> list[Handed]:
        """Take all of them out, and let no more in."""
        with self._changed:
            self._is_closed = True
        return self.take_back()


class SoftLimit:
    """Raises the error of a soft limit in the task that has exceeded it. A context while a task runs.

    By a signal, since it may hang in a system call. What comes too late for its task is dropped.
    """

    def __init__(self) -> None:
        """Main thread only, as all but `ask`."""
        self._running: int | None = None
        self._asked: tuple[int, float] | None = None

    def of(self, number: int, error: type[Exception]) -> SoftLimit:
        """For the message of this number, with the error to raise."""
        self._number, self._error = number, error
        return self

    def __enter__(self) -> None:
        signal.signal(signal.SIGUSR1, self._raise)  # each time: the task before may have wanted the signal too
        self._running = self._number

    def __exit__(self, *raised: object) -> None:
        self._running = None

    def ask(self, number: int, seconds: float) -> None:
        """The message of this number has exceeded its limit of so many seconds. From another thread."""
        self._asked = number, seconds
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        asked, self._asked = self._asked, None
        if asked is not None and asked[0] == self._running:
            raise self._error(f"it ran longer than its soft time limit of {asked[1]:g} s")


def main(channel: socket.socket, max_memory_mb: int | None = None) -> None:
    """Run messages from `channel`; never returns. Leads a process group of its own, which ends with it.

    One that occupies more than `max_memory_mb` after an execution says so, and begins no other one.
    """
    _settle_in()
    from pg_queue.tasks.context import reporter
    from pg_queue.worker.execution import outcome_of
    from pg_queue.worker.limits import soft_limit_error
    from pg_queue.worker.progress import Teller
    from pg_queue.worker.statistics import memory_mb

    inbox, soft_limit = Inbox(), SoftLimit()
    sending, own_pid = threading.Lock(), os.getpid()

    def send(*values: Any) -> None:
        with sending:
            channel.sendall(frame(values))

    threading.Thread(target=_listen, args=(channel, inbox, soft_limit, send), name="channel", daemon=True).start()
    teller = Teller(lambda number, one: send(PROGRESS, number, one.done, one.total, one.stage))
    reporter.set(teller)
    send(READY)
    while True:
        token, message = inbox.get()
        teller.begin(token)
        outcome = outcome_of(message, within=soft_limit.of(token, soft_limit_error(message.task)))
        if os.getpid() != own_pid:
            os._exit(0)  # the task forked and came back twice: only the original may report
        send(DONE, token, packed_outcome(outcome))
        if max_memory_mb is not None and (megabytes := memory_mb() or 0) > max_memory_mb:
            send(TOO_LARGE, megabytes, [token for token, _ in inbox.close()])


def _settle_in() -> None:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, stack: None)  # the worker decides; see preload
    from django.apps import apps

    if not apps.ready:
        import django

        django.setup()
    from django.db import connections

    from pg_queue.tasks import tasks

    tasks()  # a module of tasks that cannot be imported is no child's, rather than no message's
    connections.close_all()


def _listen(channel: socket.socket, inbox: Inbox, soft_limit: SoftLimit, send: Any) -> None:
    frames = Frames()
    try:
        while data := _receive(channel):
            for kind, *values in frames.feed(data):
                if kind == RUN:
                    if refused := inbox.put([unpacked(packed) for packed in values[0]]):
                        send(RETURNED, [token for token, _ in refused])
                elif kind == RECALL:
                    send(RETURNED, [token for token, _ in inbox.take_back()])
                elif kind == SOFT_LIMIT:
                    soft_limit.ask(*values)
    finally:
        # The worker is gone, or done with this child. Whatever the task has started goes too.
        os.killpg(0, signal.SIGKILL)


def _receive(channel: socket.socket) -> bytes:
    try:
        return channel.recv(RECEIVE_BYTES)
    except ConnectionError:
        return b""
