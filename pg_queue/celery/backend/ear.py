"""One thread, or greenlet, that listens for all who wait for results in this process.

It has a session of its own, that listens in the slots of the tasks that somebody waits for, and asks for the states of

- those that it has just begun to listen for: their results may have come before it did;
- those of which it was notified;
- all of them now and then, and all the time while it has no such session: safety never depends on NOTIFY.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress

import psycopg

from pg_queue.celery.backend.rows import listen, payload_of, slot_of
from pg_queue.errors import DirectConnectionRequired
from pg_queue.session import Session

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often all that somebody waits for is looked up, whatever was heard."""
POLL_SECONDS = 0.5
"""The same while there is no session that listens."""
RECONNECT_SECONDS = 5.0
IDLE_SECONDS = 30.0
"""How long the session is kept when nobody waits any more."""

Tell = Callable[[Collection[str], bool], None]
"""Is told of tasks to look up, and whether also of those that have not ended."""


class Ear:
    """Begins to listen when it is first asked to `attend`; in each child process anew."""

    _thread: threading.Thread | None
    _session: Session | None
    _starting: threading.Lock
    _heard: set[str]
    _slots: set[int]
    _looked_for: set[str]

    def __init__(
        self, connect: Callable[[], Session], namespace: str, awaited: Callable[[], set[str]], tell: Tell
    ) -> None:
        """`awaited` answers with the tasks that somebody waits for now. Both are called by the ear's thread."""
        self._connect, self._namespace = connect, namespace
        self._awaited, self._tell = awaited, tell
        self._begin()

    def attend(self) -> None:
        """Look at what is awaited now. Returns at once."""
        if self._process_id != os.getpid():
            self._close_pipe()
            self._begin()
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="downbeat-results", daemon=True)
                self._thread.start()
        self._call()

    def stop(self) -> None:
        """Listen no more, until it is asked to attend again."""
        if self._process_id == os.getpid() and self._thread is not None:
            self._is_stopping = True
            self._call()
            self._thread.join(LOOK_SECONDS)
            self._close_pipe()
            self._begin()

    def _call(self) -> None:
        with suppress(BlockingIOError):  # it is full of calls already
            os.write(self._calling, b"!")

    def _close_pipe(self) -> None:
        os.close(self._called)
        os.close(self._calling)

    def _begin(self) -> None:
        # Of a parent process there is nothing to close but the pipe: its thread is not here, its session not ours.
        self._process_id = os.getpid()
        self._is_stopping = False
        self._starting = threading.Lock()
        self._thread = None
        self._called, self._calling = os.pipe()
        os.set_blocking(self._called, False)
        os.set_blocking(self._calling, False)
        self._session = None
        self._heard, self._slots, self._looked_for = set(), set(), set()
        self._retry_at = self._look_at = self._awaited_at = 0.0
        self._is_refused = False

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                self._round()
            except Exception:
                logger.exception("celery.results_unheard looking again in %s s", POLL_SECONDS)
                self._lose()
                time.sleep(POLL_SECONDS)
        self._lose()

    def _round(self) -> None:
        awaited = self._awaited()
        if not awaited:
            self._rest()
            return
        self._awaited_at = time.monotonic()
        self._open()
        self._listen_for(awaited)
        self._look_for(awaited)
        self._wait(max(0.0, self._look_at - time.monotonic()))
        self._tell_of_heard(awaited)

    def _rest(self) -> None:
        """Wait to be called; keep the session a while for who comes next."""
        self._looked_for.clear()
        left = self._awaited_at + IDLE_SECONDS - time.monotonic()
        if self._session is None:
            self._wait(None)
        elif left > 0:
            self._wait(left)
            self._heard.clear()
        else:
            self._lose()

    def _open(self) -> None:
        if self._session is not None or self._is_refused or time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + RECONNECT_SECONDS
        try:
            session = self._connect()
        except DirectConnectionRequired as error:
            self._is_refused = True
            logger.warning("celery.results_listen_refused they are polled; %s", error)
        except psycopg.Error as error:
            logger.warning("celery.results_listen_failed they are polled meanwhile; %s", str(error).strip())
        else:
            session.add_notify_handler(lambda notice: self._heard.add(notice.payload))
            self._session = session

    def _listen_for(self, awaited: set[str]) -> None:
        if self._session is None:
            return
        slots = {slot_of(payload_of(self._namespace, task_id)) for task_id in awaited - self._looked_for} - self._slots
        if not slots:
            return
        try:
            listen(self._session, slots)
        except psycopg.Error as error:
            self._give_up(error)
        else:
            self._slots |= slots

    def _look_for(self, awaited: set[str]) -> None:
        """Ask for those that nobody has asked for since the ear listens in their slots, or for all of them in turn."""
        is_turn = time.monotonic() >= self._look_at
        if new := awaited - self._looked_for:
            self._tell(new, True)
        if is_turn and (others := awaited - new):
            self._tell(others, False)
        if is_turn:
            self._look_at = time.monotonic() + (POLL_SECONDS if self._session is None else LOOK_SECONDS)
        self._looked_for = awaited

    def _wait(self, seconds: float | None) -> None:
        """Until there is something to hear, somebody calls, or so many seconds are over."""
        descriptors = [self._called]
        if self._session is not None:
            descriptors.append(self._session.fileno())
        ready = _readable(descriptors, seconds)
        if self._called in ready:
            with suppress(BlockingIOError):
                os.read(self._called, 4096)
        if self._session is not None and len(ready - {self._called}):
            self._hear(self._session)

    def _hear(self, session: Session) -> None:
        try:
            session.pgconn.consume_input()
            while notice := session.pgconn.notifies():
                self._heard.add(notice.extra.decode())
        except psycopg.Error as error:
            self._give_up(error)

    def _tell_of_heard(self, awaited: set[str]) -> None:
        heard, self._heard = self._heard, set()
        if not heard:
            return
        awaited = awaited | self._awaited()
        if told := {task_id for task_id in awaited if payload_of(self._namespace, task_id) in heard}:
            self._tell(told, True)

    def _give_up(self, error: psycopg.Error) -> None:
        logger.warning("celery.results_listen_lost they are polled meanwhile; %s", str(error).strip())
        self._lose()

    def _lose(self) -> None:
        session, self._session = self._session, None
        self._slots, self._looked_for, self._look_at = set(), set(), 0.0
        if session is not None:
            session.close()


def _readable(descriptors: Collection[int], seconds: float | None) -> set[int]:
    """Which of them are, after at most so many seconds. By the functions that gevent replaces, looked up late."""
    if not hasattr(select, "poll"):  # Windows; some green event loops
        return set(select.select(list(descriptors), [], [], seconds)[0])
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)}
