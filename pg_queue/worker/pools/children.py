"""The worker's side of its children: who runs what, since when, and how much more each may be given."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

from pg_queue.domain import Claim
from pg_queue.worker import child
from pg_queue.worker.pools.pace import Pace
from pg_queue.worker.pools.zygote import Zygote
from pg_queue.worker.wire import Frames, frame, packed

logger = logging.getLogger(__name__)

LONG_SECONDS = 1.0
"""A child that is to be replaced and runs a task for longer than this does not keep the next one waiting."""
RESPAWN_SECONDS, RESPAWN_MAX_SECONDS = 0.1, 10.0
"""Wait before a child that ended without having run anything is replaced; doubled each time in a row."""


class GarbledReport(Exception):
    """A child sent what it cannot mean: a task has meddled with its channel."""


@dataclass(slots=True, eq=False)
class Child:
    """One child process. The oldest assigned claim is the one that it runs."""

    process: ForkServerProcess
    channel: socket.socket
    zygote: Zygote = field(default_factory=Zygote)
    """What it was forked from: tells the code that it runs."""
    is_scout: bool = False
    """It was the first one of its zygote, and shows whether the new code starts."""
    stands_by: bool = False
    """It is given nothing yet: it takes the place of one that leaves."""
    most_executions: int | None = None
    """It is replaced after so many; None: it is not for that."""
    executions: int = 0
    leaving: str | None = None
    """Why it is to be replaced when what it runs has ended: `tasks`, `memory` or `reload`; None: it is not."""
    leaving_since: float = 0.0
    asked: UUID | None = None
    """The token of the claim whose soft limit it was told of last."""
    assigned: deque[Claim] = field(default_factory=deque)
    is_ready: bool = False
    is_recalling: bool = False
    busy_since: float = 0.0
    """When the running execution began (`time.monotonic`)."""
    pace: Pace = field(default_factory=Pace)
    is_cut: bool = False
    """Its channel has ended: nothing more will arrive."""
    killed_for: str | None = None
    """Why the worker killed it: `time_limit`, `lost`, `stopped`, `garbled`, or what it was `leaving` for; None: it did
    not."""
    killed_at: UUID | None = None
    """The token of the claim that it ran then."""
    frames: Frames = field(default_factory=Frames)
    outbox: bytearray = field(default_factory=bytearray)
    process_id: int = field(init=False)
    """Also when it has ended; 0 where it never began."""

    def __post_init__(self) -> None:
        self.process_id = self.process.pid or 0

    @property
    def has_run(self) -> bool:
        """Whether it has ever ended an execution."""
        return self.executions > 0

    def capacity(self, most_ahead: int) -> int:
        """How many claims it may have at once: that which it runs, and those beforehand."""
        if not self.is_ready or self.killed_for or self.is_cut or self.stands_by or self.leaving:
            return 0
        most = 1 + self.pace.ahead(most_ahead)
        return most if self.most_executions is None else min(most, self.most_executions - self.executions)

    def room(self, most_ahead: int) -> int:
        """How many more claims it may be given now; below 0: it has more than it would be given now."""
        return 0 if self.is_recalling else self.capacity(most_ahead) - len(self.assigned)

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
        self.pace.note(now - self.busy_since)
        self.executions, self.busy_since = self.executions + 1, now
        if self.most_executions is not None and self.executions >= self.most_executions:
            self.leave("tasks")
        return claim

    def returned(self, numbers: Iterable[int]) -> list[Claim]:
        """These were called back before they began; they are no longer assigned."""
        back = set(numbers)
        self.is_recalling = False
        claims = [claim for claim in self.assigned if claim.token.int in back]
        self.assigned = deque(claim for claim in self.assigned if claim.token.int not in back)
        return claims

    def ask(self, seconds: float) -> None:
        """Tell it that what it runs has exceeded its soft limit of so many seconds."""
        self.asked = self.assigned[0].token
        self.send(child.SOFT_LIMIT, self.asked.int, seconds)

    def leave(self, why: str) -> None:
        """Give it nothing more, and take back what has not begun: it is replaced when what it runs has ended."""
        if self.leaving is None:
            self.leaving, self.leaving_since = why, time.monotonic()
            self.recall()

    def kill(self, why: str) -> None:
        """End it with its process group, at once; what it ran is dealt with when its end is noticed."""
        if self.killed_for is None:
            self.killed_for = why
            self.killed_at = self.assigned[0].token if self.assigned else None
            self.end()

    def end(self) -> None:
        """Make sure that a child whose channel is cut ends, if it has not done so of its own accord."""
        _kill_group(self.process)


class Children:
    """The child processes: as many as asked for, replaced when they end, and all of them when the code was loaded anew.

    While the code is being replaced there is one more, which stands by: it takes the place of one that has ended its
    work, so that as many tasks run at once as ever. New code that no child can start with replaces nothing.
    """

    def __init__(
        self,
        size: int,
        *,
        watch: Callable[[Child], None],
        wake: Callable[[], object] = lambda: None,
        max_memory_mb: int | None = None,
    ) -> None:
        """`watch` is called with each new child, to wait for its `channel` and its `process.sentinel`; `wake`, in
        another thread, when `turn` has something to do."""
        self.size = size
        self._children: list[Child] = []
        self._watch, self._wake, self._max_memory_mb = watch, wake, max_memory_mb
        self._context = multiprocessing.get_context("forkserver")
        self._zygote = Zygote()
        self._scouts: SimpleQueue[Child | Exception] = SimpleQueue()
        self._is_scouting = self._is_outdated_again = False
        self._spawn_at = 0.0
        self._delay = RESPAWN_SECONDS

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children)

    def __len__(self) -> int:
        return len(self._children)

    def add(self, started: Child) -> None:
        """Count this one among them."""
        started.stands_by = len(self._children) >= self.size
        self._children.append(started)
        self._watch(started)

    def turn(self) -> None:
        """Start the children that are missing, where that is due, and end those that are to be replaced."""
        self._welcome_scout()
        self._replace()
        for one in self._children:
            if one.leaving and not one.assigned:
                one.kill(one.leaving)
        while self._missing() and time.monotonic() >= self._spawn_at:
            try:
                self.add(self._spawn(self._zygote))
            except (OSError, EOFError):  # the process that forks them is gone: the next attempt starts another
                logger.warning("worker.child_not_started", exc_info=True)
                self._put_off()

    def seconds_until_turn(self) -> float | None:
        """Seconds until `turn` has something to do; None while it has not."""
        waits = [max(0.0, self._spawn_at - time.monotonic())] if self._missing() else []
        if any(self._is_outdated(one) for one in self._children):
            waits.append(LONG_SECONDS)
        return min(waits, default=None)

    def reload(self) -> None:
        """Load the code anew, in another process; when a child has started with it, replace the others one by one."""
        if self._is_scouting:
            self._is_outdated_again = True
            return
        self._is_scouting = True
        threading.Thread(target=self._scout, name="reload", daemon=True).start()

    def note_ready(self, one: Child) -> None:
        """A child has started."""
        one.is_ready = True
        if self._is_scouting and one.is_scout:
            logger.info("worker.reloaded; %s children are replaced one by one", self.size)
            self._zygote, self._is_scouting = one.zygote, False
            if self._is_outdated_again:
                self._is_outdated_again = False
                self.reload()

    def remove(self, gone: Child) -> None:
        """Take a child out that has ended, and put off its successor where it ended without having run anything."""
        ended = how_it_ended(gone.process.exitcode)
        self._children.remove(gone)
        gone.channel.close()
        gone.process.join()
        gone.process.close()
        if gone.is_scout and not gone.is_ready:
            self._give_up_reload(ended)
        elif gone.has_run or gone.assigned or gone.leaving:
            self._delay, self._spawn_at = RESPAWN_SECONDS, 0.0
        else:
            self._put_off()
        if len(self._children) <= self.size:
            for one in self._children:
                one.stands_by = False
        if gone.zygote is not self._zygote and all(one.zygote is not gone.zygote for one in self._children):
            gone.zygote.stop()

    def close(self) -> None:
        """Kill all that are left, with what they started, and wait until they are gone."""
        for one in self._children:
            one.kill("stopped")
        for one in self._children:
            one.process.join(5)
            one.channel.close()
        for zygote in {self._zygote, *(one.zygote for one in self._children)}:
            zygote.stop()

    # Replacing all

    def _scout(self) -> None:
        """In a thread of its own: loading the code takes seconds."""
        try:
            self._scouts.put(self._spawn(Zygote(), is_scout=True))
        except Exception as error:  # noqa: BLE001 - whatever keeps it from starting
            self._scouts.put(error)
        self._wake()

    def _welcome_scout(self) -> None:
        with contextlib.suppress(Empty):
            scout = self._scouts.get_nowait()
            if isinstance(scout, Child):
                self.add(scout)
            else:
                self._give_up_reload(f"was not started: {type(scout).__name__}: {scout}")

    def _give_up_reload(self, why: str) -> None:
        logger.error("worker.reload_failed; the code stays as it is. The first process with the new one %s", why)
        self._is_scouting = self._is_outdated_again = False

    def _replace(self) -> None:
        """Let the next one leave once another stands by. One at a time, but for those whose task is long."""
        outdated = [one for one in self._children if self._is_outdated(one)]
        if not outdated or not any(one.stands_by and one.is_ready for one in self._children):
            return
        now = time.monotonic()
        if any(one.leaving and now - one.leaving_since < LONG_SECONDS for one in outdated):
            return
        if staying := [one for one in outdated if not one.leaving]:
            min(staying, key=lambda one: len(one.assigned)).leave("reload")

    def _is_outdated(self, one: Child) -> bool:
        return one.zygote is not self._zygote and (one.is_ready or not one.is_scout)

    def _missing(self) -> bool:
        is_replacing = any(self._is_outdated(one) for one in self._children)
        return len(self._children) < self.size + is_replacing

    def _put_off(self) -> None:
        self._spawn_at = time.monotonic() + self._delay
        self._delay = min(self._delay * 2, RESPAWN_MAX_SECONDS)

    def _spawn(self, zygote: Zygote, *, is_scout: bool = False) -> Child:
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as on_failure:
            on_failure.callback(ours.close)
            arguments = (theirs, self._max_memory_mb)
            process = self._context.Process(target=child.main, args=arguments, name="downbeat-task")
            zygote.start(process)
            on_failure.pop_all()
        ours.setblocking(False)
        return Child(process=process, channel=ours, zygote=zygote, is_scout=is_scout)


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
