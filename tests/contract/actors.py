"""The test's side of `tests.contract.actor`: processes that do as they are told, and die when they are to."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Protocol

from tests.processes import ROOT


class Place(Protocol):
    """Where a store is."""

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment for `pg_queue.storage.store()` to be this store."""


class ServerFailed(Exception):
    """The store's server, or the connection to it, failed in the actor's hands."""


class Actor:
    """One process at the store under test, ready when made. Its errors go to the test's own output."""

    def __init__(self, place: Place, *, clock_off_by_seconds: float | None = None) -> None:
        arguments = [] if clock_off_by_seconds is None else [str(clock_off_by_seconds)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.contract.actor", *arguments],
            cwd=ROOT,
            env=place.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def begin(self, do: str, **arguments: Any) -> None:
        """Have it do something; `answer` waits for the end of that."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What the oldest command begun has returned. Raises: ServerFailed."""
        found = json.loads(self._read())
        if "failed" in found:
            raise ServerFailed(found["failed"])
        return found["returned"]

    def __call__(self, do: str, **arguments: Any) -> Any:
        """Do something and wait for the answer."""
        self.begin(do, **arguments)
        return self.answer()

    def kill(self) -> None:
        """SIGKILL; waits until it is gone. May be called twice."""
        self.process.kill()
        self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the actor has ended: {self.process.wait(60)}"
        return line.strip()
