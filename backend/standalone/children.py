"""One supervised process: started on a leash, read by line, started again when it dies, stopped within a deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MANAGE = (sys.executable, str(ROOT / "manage.py"))
LEASH = Path(__file__).with_name("leash.py")
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
STEADY_SECONDS = 30.0
"""A process that lived this long starts again without a growing delay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to run, and how long it may take to stop."""

    name: str
    """Prefix of its lines."""
    argv: tuple[str, ...]
    """The program, by absolute path, and its arguments."""
    stop_seconds: float = 10.0
    """From SIGTERM to SIGKILL."""


class Child:
    """A process and its successors. Owned by one thread, whose end ends them (a parent-death signal is a thread's)."""

    def __init__(self, spec: ChildSpec, environment: Mapping[str, str]) -> None:
        self.spec = spec
        self.environment = dict(environment)
        self.starts = 0
        self.start_at: float | None = 0.0
        """`time.monotonic()` of the next start; None while it runs, or when it shall not run again."""
        self._popen: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._delay = FIRST_DELAY_SECONDS
        self._pending = b""
        self._kill_at: float | None = None

    @property
    def pid(self) -> int | None:
        """The process's pid; None when none runs."""
        return self._popen.pid if self._popen else None

    @property
    def fileno(self) -> int | None:
        """The pipe that its output comes from, non-blocking; None when none runs."""
        return self._popen.stdout.fileno() if self._popen and self._popen.stdout else None

    def start(self) -> None:
        """Start the process in a session of its own, so that ctrl-C at the terminal reaches the supervisor alone."""
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]
        self._popen = subprocess.Popen(
            [*leash, *self.spec.argv],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._popen.stdout is not None
        os.set_blocking(self._popen.stdout.fileno(), False)
        self.starts += 1
        self.start_at, self._started_at, self._kill_at = None, time.monotonic(), None

    def read_lines(self) -> list[str]:
        """The complete lines written since the last call."""
        if self.fileno is None:
            return []
        with suppress(BlockingIOError):
            while chunk := os.read(self.fileno, 65536):
                self._pending += chunk
        *lines, self._pending = self._pending.split(b"\n")
        return [line.decode(errors="replace").rstrip("\r") for line in lines]

    def poll(self) -> int | None:
        """The exit code of a process that ended and was not closed yet; None otherwise."""
        return self._popen.poll() if self._popen else None

    def close(self) -> None:
        """Forget the process that ended, and kill what is left of its group."""
        self._signal_group(signal.SIGKILL)
        if self._popen is not None and self._popen.stdout is not None:
            self._popen.stdout.close()
        self._popen, self._pending, self._kill_at = None, b"", None

    def schedule_restart(self) -> float:
        """Plan the next start, later each time while it keeps dying young; the delay in seconds."""
        if time.monotonic() - self._started_at > STEADY_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_DELAY_SECONDS)
        self.start_at = time.monotonic() + delay
        return delay

    def ask_to_stop(self) -> None:
        """SIGTERM to the process, which drains; its deadline starts. It will not be started again."""
        self.start_at = None
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
            self._popen.send_signal(signal.SIGCONT)  # a frozen process would not hear of it
            self._kill_at = time.monotonic() + self.spec.stop_seconds

    def kill_if_overdue(self) -> bool:
        """SIGKILL to the whole group once the deadline is over; True when it was."""
        if self._kill_at is None or time.monotonic() < self._kill_at:
            return False
        self.kill()
        return True

    def kill(self) -> None:
        """SIGKILL to the whole group, at once."""
        self.start_at = self._kill_at = None
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._popen is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)
