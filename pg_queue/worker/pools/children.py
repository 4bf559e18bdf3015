"""The worker's side of its children: who runs what, since when, and how much more each may be given."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from typing import Any
from uuid import UUID

from pg_queue.domain import Claim
from pg_queue.worker import child
from pg_queue.worker.wire import Frames, frame, packed

logger = logging.getLogger(__name__)

AHEAD_SECONDS = 0.05
"""A child is given as much beforehand as it is expected to run in this time."""
RECALL_SECONDS = 0.2
"""What waits behind a task that runs longer than this is called back."""
RESPAWN_SECONDS, RESPAWN_MAX_SECONDS = 0.1, 10.0
"""Wait before a child that ended without having run anything is replaced; doubled each time in a row."""


class GarbledReport(Exception):
    """A child sent what it cannot mean: a task has meddled with its channel."""


@dataclass(slots=True, eq=False)
class Child:
    """One child process. The oldest assigned claim is the one that it runs."""

    process: ForkServerProcess
    channel: socket.socket
    assigned: deque[Claim] = field(default_factory=deque)
    is_ready: bool = False
    has_run: bool = False
    is_recalling: bool = False
    busy_since: float = 0.0
    """When the running execution began (`time.monotonic`)."""
    average_seconds: float | None = None
    """Of its recent executions; None before the first."""
    is_cut: bool = False
    """Its channel has ended: nothing more will arrive."""
    killed_for: str | None = None
    """Why the worker killed it: `time_limit`, `lost`, `stopped` or `garbled`; None: it did not."""
    killed_at: UUID | None = None
    """The token of the claim that it ran then."""
    frames: Frames = field(default_factory=Frames)
    outbox: bytearray = field(default_factory=bytearray)

    def room(self, most_ahead: int) -> int:
        """How many more claims it may be given now."""
        if not self.is_ready or self.killed_for or self.is_cut or self.is_recalling:
            return 0
        return 1 + self._ahead(most_ahead) - len(self.assigned)

    def assign(self, claims: list[Claim]) -> None:
        """Hand claims over, to be run after what it has."""
        if not self.assigned:
            self.busy_since = time.monotonic()
        self.assigned.extend(claims)
        self.send(child.RUN, [packed(claim) for claim in claims])

    def recall(self) -> None:
        """Ask for everything back that has not begun; the answer is `returned`."""
        if len(self.assigned) > 1 and not self.is_recalling:
            self.is_recalling = True
            self.send(child.RECALL)

    def send(self, *values: Any) -> None:
        """Queue a frame and write what the channel takes; the rest goes out with `flush`."""
        self.outbox += frame(values)
        self.flush()

    def flush(self) -> None:
        """Write what is queued, without blocking. A broken channel is noticed by the child's end."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self.outbox and not self.is_cut:
                del self.outbox[: self.channel.send(self.outbox)]

    def receive(self) -> Iterator[tuple[Any, ...]]:
        """Everything that has arrived, without blocking. Raises: whatever `pickle` raises for what is no frame."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self.channel.recv(child.RECEIVE_BYTES):
                yield from self.frames.feed(data)
            self.is_cut = True

    def finished(self, number: int) -> Claim:
        """The oldest assigned claim was reported, by the number of its token; it is no longer assigned.

        Raises: GarbledReport for any other one.
        """
        if not self.assigned or self.assigned[0].token.int != number:
            raise GarbledReport(f"a report of {number!r}, which it does not run")
        claim = self.assigned.popleft()
        now = time.monotonic()
        self._note_duration(now - self.busy_since)
        self.has_run, self.busy_since = True, now
        return claim

    def returned(self, numbers: Iterable[int]) -> list[Claim]:
        """These were called back before they began; they are no longer assigned."""
        back = set(numbers)
        self.is_recalling = False
        claims = [claim for claim in self.assigned if claim.token.int in back]
        self.assigned = deque(claim for claim in self.assigned if claim.token.int not in back)
        return claims

    def kill(self, why: str) -> None:
        """End it with its process group, at once; what it ran is dealt with when its end is noticed."""
        if self.killed_for is None:
            self.killed_for = why
            self.killed_at = self.assigned[0].token if self.assigned else None
            self.end()

    def end(self) -> None:
        """Make sure that a child whose channel is cut ends, if it has not done so of its own accord."""
        _kill_group(self.process)

    def _ahead(self, most: int) -> int:
        if self.average_seconds is None:
            return 0
        return min(most, int(AHEAD_SECONDS / max(self.average_seconds, 1e-6)))

    def _note_duration(self, seconds: float) -> None:
        before = self.average_seconds
        self.average_seconds = seconds if before is None or seconds > RECALL_SECONDS else before * 0.8 + seconds * 0.2


class Children:
    """The child processes: as many as asked for, replaced when they end."""

    def __init__(self, size: int, *, watch: Callable[[Child], None]) -> None:
        """`watch` is called with each new child, to wait for its `channel` and its `process.sentinel`."""
        self.size = size
        self._children: list[Child] = []
        self._watch = watch
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["pg_queue.worker.preload"])
        self._spawn_at = 0.0
        self._delay = RESPAWN_SECONDS

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children)

    def __len__(self) -> int:
        return len(self._children)

    def add(self, started: Child) -> None:
        """Count this one among them."""
        self._children.append(started)
        self._watch(started)

    def fill(self) -> None:
        """Start the children that are missing, where that is due."""
        while len(self._children) < self.size and time.monotonic() >= self._spawn_at:
            try:
                self.add(self._spawn())
            except (OSError, EOFError):  # the process that forks them is gone: the next attempt starts another
                logger.warning("worker.child_not_started", exc_info=True)
                self._put_off()

    def seconds_until_fill(self) -> float | None:
        """Seconds until a missing child may be started; None when none is missing."""
        return max(0.0, self._spawn_at - time.monotonic()) if len(self._children) < self.size else None

    def remove(self, gone: Child) -> None:
        """Take a child out that has ended, and put off its successor where it ended without having run anything."""
        self._children.remove(gone)
        gone.channel.close()
        gone.process.join()
        gone.process.close()
        if gone.has_run or gone.assigned:
            self._delay, self._spawn_at = RESPAWN_SECONDS, 0.0
        else:
            self._put_off()

    def close(self) -> None:
        """Kill all that are left, with what they started, and wait until they are gone."""
        for one in self._children:
            one.kill("stopped")
        for one in self._children:
            one.process.join(5)
            one.channel.close()

    def _put_off(self) -> None:
        self._spawn_at = time.monotonic() + self._delay
        self._delay = min(self._delay * 2, RESPAWN_MAX_SECONDS)

    def _spawn(self) -> Child:
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as on_failure:
            on_failure.callback(ours.close)
            process = self._context.Process(target=child.main, args=(theirs,), name="downbeat-task")
            process.start()
            on_failure.pop_all()
        ours.setblocking(False)
        return Child(process=process, channel=ours)


def how_it_ended(exit_code: int | None) -> str:
    """An exit code in words: `ended by signal SIGKILL (9)`, `exited with code 3`."""
    if exit_code is not None and exit_code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by signal {signal.Signals(-exit_code).name} ({-exit_code})"
        return f"was ended by signal {-exit_code}"
    return f"exited with code {exit_code}"


def _kill_group(process: ForkServerProcess) -> None:
    """The child leads its group once it has settled in; before, there is only the child."""
    pid = process.pid
    if pid is None or not process.is_alive():
        return
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
