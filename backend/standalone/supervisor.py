"""Keeps the processes of one data directory running, and stops them in order.

One thread starts, reads and reaps (children are on a leash that is tied to the thread that started them). Signals and
the leader watch only wake it up, through a pipe. States:

- running: a process that ends is started again after a growing delay; so is the embedded PostgreSQL.
- stopping (SIGINT, SIGTERM, SIGHUP, or nobody reads the output): every process has had SIGTERM and drains until its own
  deadline. A second signal kills what is left.
- stopped: no child is left. PostgreSQL is stopped after that, by whoever started it.
"""

from __future__ import annotations

import os
import queue
import selectors
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType

import psycopg

from backend.standalone.children import Child, ChildSpec
from backend.standalone.errors import StandaloneError
from backend.standalone.output import Terminal
from backend.standalone.postgres import EmbeddedPostgres

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST_WAIT_SECONDS = 0.5
POSTGRES_RETRY_SECONDS = 5.0
# `make` passes a SIGTERM on to us that we may have got ourselves, being in its process group.
SAME_REQUEST_SECONDS = 1.0


class Supervisor:
    """Supervises children, and an embedded PostgreSQL if there is one. Use from the main thread, one at a time."""

    def __init__(self, terminal: Terminal, postgres: EmbeddedPostgres | None = None) -> None:
        self.terminal = terminal
        self.postgres = postgres
        self.children: list[Child] = []
        self.stop_requested_at: float | None = None
        """`time.monotonic()` of the first stop signal."""
        self.is_hurried = False
        """True after a second one: no process is waited for."""
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._postgres_retry_at = 0.0
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def add(self, spec: ChildSpec, environment: Mapping[str, str]) -> Child:
        """A child that the next pass of `run` starts."""
        child = Child(spec, environment)
        self.children.append(child)
        return child

    def request(self, action: Callable[[], None]) -> None:
        """Have `action` called soon by the supervising thread. Safe from any thread."""
        self._requests.put(action)
        self._wake()

    def run(self, after_pass: Callable[[], None] = lambda: None) -> None:
        """Take over the stop signals, supervise until one comes, and return when no child is left.

        `after_pass` is called at least twice a second until then.
        """
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        while self.stop_requested_at is None and self.terminal.is_open:
            self._start_due_children()
            self._keep_postgres_running()
            self._wait_for_events()
            self._reap(restart=True)
            after_pass()
        self._stop_children()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number in STOP_SIGNALS:
            now = time.monotonic()
            first = self.stop_requested_at = self.stop_requested_at or now
            self.is_hurried = self.is_hurried or now - first > SAME_REQUEST_SECONDS
        self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_writer, b"\0")

    def _start_due_children(self) -> None:
        for child in self.children:
            if child.start_at is not None and child.start_at <= time.monotonic():
                child.start()

    def _wait_for_events(self) -> None:
        """Wait for output, a signal, a request or half a second; show the output and do what was requested."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_reader, selectors.EVENT_READ)
            for child in self.children:
                if child.fileno is not None:
                    selector.register(child.fileno, selectors.EVENT_READ, child)
            for key, _ in selector.select(LONGEST_WAIT_SECONDS):
                if key.data is not None:
                    self._show_lines(key.data)
        with suppress(BlockingIOError):
            os.read(self._wake_reader, 4096)
        while not self._requests.empty():
            self._requests.get()()

    def _show_lines(self, child: Child) -> None:
        if lines := child.read_lines():
            self.terminal.say(child.spec.name, "\n".join(lines))

    def _reap(self, *, restart: bool) -> None:
        for child in self.children:
            pid = child.pid
            if (code := child.poll()) is None:
                continue
            self._show_lines(child)
            child.close()
            what = f"{child.spec.name} (pid {pid}) {describe_exit(code)}"
            if restart:
                self.terminal.complain(f"{what}; starting it again in {child.schedule_restart():.1f} s")
            elif code not in {0, -signal.SIGTERM}:
                self.terminal.complain(what)

    def _keep_postgres_running(self) -> None:
        if self.postgres is None or self.postgres.is_running or time.monotonic() < self._postgres_retry_at:
            return
        self.terminal.complain("PostgreSQL has ended; starting it again")
        try:
            self.postgres.start()
        except (StandaloneError, psycopg.Error) as error:
            self._postgres_retry_at = time.monotonic() + POSTGRES_RETRY_SECONDS
            self.terminal.complain(f"{error}\nTrying again in {POSTGRES_RETRY_SECONDS:.0f} s")

    def _stop_children(self) -> None:
        self.terminal.say("downbeat", "stopping: the worker finishes what it runs (ctrl-C again: do not wait)")
        for child in self.children:
            child.ask_to_stop()
        while any(child.pid is not None for child in self.children):
            for child in self.children:
                if self.is_hurried:
                    child.kill()
                elif child.kill_if_overdue():
                    self.terminal.complain(f"{child.spec.name} did not stop in {child.spec.stop_seconds:.0f} s: killed")
            self._wait_for_events()
            self._reap(restart=False)


def describe_exit(code: int) -> str:
    """An exit code of `subprocess`, in words."""
    if code >= 0:
        return f"exited with code {code}"
    return f"was ended by {signal.Signals(-code).name}"
