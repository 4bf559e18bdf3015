"""`async def` tasks on one event loop, hundreds at once; the others in threads beside it.

The event loop has a thread of its own. What runs in it is stopped by cancellation (`asyncio.CancelledError` is raised
where the task awaits), for one of these reasons:

- its soft time limit: where the task lets the cancellation pass, it has failed with `SoftTimeLimitExceeded`;
- its time limit: retried as `worker.time_limit`, whatever the task makes of it. Cancelled again each second;
- the end of the drain: retried as `worker.stopped`, unless it returns after all;
- its claim was lost, or its message was cancelled: nothing is settled.

What does not await cannot be stopped, and keeps all the others from going on: the worker logs where it stands, and is
not alive any more for `/healthz`. A task that is no `async def` runs in a thread, which cannot be stopped at all: one
with a time limit is not begun, and retried as `worker.no_time_limit`, for a worker of processes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, Literal
from uuid import UUID

from pg_queue.domain import Claim, Failure, Retry
from pg_queue.errors import SoftTimeLimitExceeded, UnknownTask
from pg_queue.settings import QueueSettings
from pg_queue.tasks import execute_async, following, get_task
from pg_queue.tasks.context import reporter
from pg_queue.worker.execution import Outcome, delay_after_loss, outcome_of_raised, outcome_of_returned, refusal
from pg_queue.worker.limits import Limits, limits_for
from pg_queue.worker.pool import Desk
from pg_queue.worker.pools.hands import Hands
from pg_queue.worker.pools.lanes import Lanes
from pg_queue.worker.progress import Board

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
"""How often a task that was cancelled for good, and goes on, is cancelled again."""
PING_SECONDS, BLOCKED_SECONDS = 1.0, 5.0
"""How often the loop is asked whether it turns, and after how long without an answer it counts as blocked."""

Reason = Literal["time_limit", "stopped", "lost"]


class Execution:
    """One execution in the event loop. Its thread's own, but for `claim`."""

    def __init__(self, claim: Claim, limits: Limits) -> None:
        self.claim, self._limits = claim, limits
        self.stopped_for: Reason | None = None
        self._is_asked = False
        """Its soft limit has passed."""
        self._task: asyncio.Task[Any] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    async def outcome(self, lanes: Lanes) -> Outcome:
        """Run the task. See `pg_queue.worker.execution.outcome_of`."""
        message = self.claim.message
        with following.execution() as followers, lanes.lane():
            try:
                outcome = refusal(message) or outcome_of_returned(message, await self._run())
            except BaseException as raised:  # noqa: BLE001 - whatever a task does, its message needs an outcome
                outcome = self._outcome_of_raised(raised)
        return replace(outcome, followers=tuple(followers)) if followers else outcome

    def stop(self, reason: Reason) -> None:
        """Cancel it, and again until it has ended."""
        if self.stopped_for is None:
            self.stopped_for = reason
        self._cancel()

    async def _run(self) -> Any:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        if self._limits.soft is not None:
            self._timers.append(loop.call_later(self._limits.soft, self._ask))
        if self._limits.hard is not None:
            self._timers.append(loop.call_later(self._limits.hard, self.stop, "time_limit"))
        try:
            return await execute_async(self.claim.message)
        finally:
            self._task = None
            for timer in self._timers:
                timer.cancel()

    def _outcome_of_raised(self, raised: BaseException) -> Outcome:
        message = self.claim.message
        if isinstance(raised, asyncio.CancelledError) and self._is_asked:
            error = SoftTimeLimitExceeded(f"it ran longer than its soft time limit of {self._limits.soft:g} s")
            error.__cause__ = raised
            return outcome_of_raised(message, error)
        if self.stopped_for == "stopped":
            return Retry(failure=Failure(type="worker.stopped", message=_STOPPED), delay=timedelta())
        return outcome_of_raised(message, raised)

    def _ask(self) -> None:
        if self._task is not None:
            self._is_asked = True
            self._task.cancel("soft_time_limit")

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel(self.stopped_for)
            self._timers.append(self._task.get_loop().call_later(AGAIN_SECONDS, self._cancel))


_STOPPED = "the worker stopped, and the task was cancelled when the drain was over"


class EventLoop:
    """An event loop in a thread of its own, which runs tasks. `fileno` is readable when one of them has ended."""

    def __init__(self, concurrency: int, conf: QueueSettings, board: Board) -> None:
        """`board` is told what the tasks say of themselves."""
        self._board = board
        self.running: dict[UUID, Execution] = {}
        """By the token of the claim: what was begun and is not yet among the `finished`. The worker's thread's own."""
        self._conf, self._lanes = conf, Lanes(concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="event-loop", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._outbox: SimpleQueue[tuple[Execution, Outcome]] = SimpleQueue()
        self._read, self._write = os.pipe()
        self._is_signalled = False
        self._pinged_at, self._ponged_at = time.monotonic(), time.monotonic()
        self._is_reported = False

    def fileno(self) -> int:
        """To wait on."""
        return self._read

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def begin(self, claims: Sequence[Claim]) -> None:
        """Begin all of these at once."""
        begun = [Execution(claim, limits_for(claim.message, self._conf)) for claim in claims]
        self.running.update((one.claim.token, one) for one in begun)
        self._loop.call_soon_threadsafe(self._begin, begun)

    def stop(self, tokens: Collection[UUID], reason: Reason) -> None:
        """Cancel the executions of these claims."""
        for token in tokens:
            self._loop.call_soon_threadsafe(self.running[token].stop, reason)

    def finished(self) -> Iterator[tuple[Execution, Outcome]]:
        """What has come to an end since the last time."""
        if self._is_signalled:
            os.read(self._read, 1)
            self._is_signalled = False  # before the outbox is read: what comes later signals again
        while True:
            try:
                execution, outcome = self._outbox.get_nowait()
            except Empty:
                return
            del self.running[execution.claim.token]
            yield execution, outcome

    def ping(self) -> bool:
        """Ask the loop for a sign of life, now and then; False while it owes one for too long."""
        now = time.monotonic()
        if self._ponged_at >= self._pinged_at and now - self._pinged_at >= PING_SECONDS:
            self._pinged_at = now
            self._loop.call_soon_threadsafe(self._pong)
        is_blocked = self._ponged_at < self._pinged_at and now - self._pinged_at > BLOCKED_SECONDS
        if is_blocked and not self._is_reported:
            logger.warning("worker.event_loop_blocked seconds=%.0f at=%s", now - self._pinged_at, self._place())
        self._is_reported = is_blocked
        return not is_blocked

    def close(self) -> None:
        """End, and wait for it a little; what does not let itself be cancelled is left behind."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1.0)
        if not self._thread.is_alive():
            os.close(self._read)
            os.close(self._write)

    # In the loop's thread

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:
                self._loop.run_until_complete(asyncio.wait(left))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._lanes.close()
            self._loop.close()

    def _begin(self, begun: list[Execution]) -> None:
        for execution in begun:
            task = self._loop.create_task(self._run(execution), name=f"message {execution.claim.message.id}")
            self._tasks.add(task)  # the loop itself would let go of it
            task.add_done_callback(self._tasks.discard)

    async def _run(self, execution: Execution) -> None:
        reporter.set(self._board.reporter_for(execution.claim))  # in this asyncio task's own context
        outcome = await execution.outcome(self._lanes)
        self._outbox.put((execution, outcome))
        if not self._is_signalled:
            self._is_signalled = True
            os.write(self._write, b"!")

    def _pong(self) -> None:
        self._ponged_at = time.monotonic()

    def _place(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


class AsyncioPool:
    """Implements `pg_queue.worker.pool.Pool`."""

    stop_seconds: ClassVar[float] = 3.0

    def __init__(self, desk: Desk) -> None:
        self._desk, self._count = desk, desk.options.concurrency
        self._event_loop = EventLoop(self._count, desk.conf, desk.books.board)
        self._hands = Hands(self._count, desk.books.board)
        self._is_over = False

    @property
    def is_alive(self) -> bool:
        """See the port."""
        return self._event_loop.ping()

    @property
    def busy(self) -> int:
        """See the port."""
        return len(self._event_loop.running) + self._hands.busy

    @property
    def process_ids(self) -> Sequence[int]:
        """See the port: there are none."""
        return ()

    def room(self) -> int:
        """See the port."""
        return self._count - self.busy

    def start(self) -> None:
        """See the port."""
        for source in (self._event_loop, self._hands):
            self._desk.selector.register(source, selectors.EVENT_READ, lambda: None)  # `turn` reads it
        self._event_loop.start()

    def take(self, claims: Sequence[Claim]) -> None:
        """See the port."""
        native, others = list[Claim](), list[Claim]()
        for claim in claims:
            (native if _is_async(claim.message.task) else others).append(claim)
        if native:
            self._event_loop.begin(native)
        self._hands.take([claim for claim in others if not self._refuse(claim)])

    def turn(self) -> None:
        """See the port."""
        for execution, outcome in self._event_loop.finished():
            self._conclude(execution, outcome)
        for claim, ended in self._hands.finished():
            if ended is None:
                self._desk.books.write_off(claim)
            else:
                self._desk.books.report(claim, ended)

    def deadlines(self, now: float) -> Iterator[float]:
        """See the port: the event loop knows the limits."""
        return iter(())

    def lose(self, tokens: Collection[UUID]) -> None:
        """See the port."""
        native = [token for token in tokens if token in self._event_loop.running]
        self._event_loop.stop(native, "lost")
        if others := len(tokens) - len(native):
            self._hands.lose(tokens)
            logger.warning("worker.claims_lost count=%s; they go on, and settle nothing", others)

    def drain(self, *, is_over: bool) -> None:
        """See the port."""
        if is_over and not self._is_over:
            self._is_over = True
            self._event_loop.stop(list(self._event_loop.running), "stopped")

    def reload(self) -> None:
        """See the port: code that runs in this process cannot be loaded anew."""
        logger.warning("worker.reload_refused pool=asyncio; restart it for new code")

    def close(self) -> None:
        """See the port."""
        self._event_loop.close()
        self._hands.stop()

    def details(self) -> dict[str, Any]:
        """See the port."""
        return {"concurrency": self._count, "coroutines": len(self._event_loop.running), "threads": self._hands.busy}

    def _conclude(self, execution: Execution, outcome: Outcome) -> None:
        if execution.stopped_for == "lost":
            self._desk.books.write_off(execution.claim)
        elif execution.stopped_for == "time_limit":
            self._desk.books.report(execution.claim, self._overdue(execution.claim))
        else:
            self._desk.books.report(execution.claim, outcome)

    def _overdue(self, claim: Claim) -> Retry:
        limit = limits_for(claim.message, self._desk.conf).hard
        text = f"it ran longer than its time limit of {limit:g} s and was cancelled"
        return Retry(failure=Failure(type="worker.time_limit", message=text), delay=delay_after_loss(claim.message))

    def _refuse(self, claim: Claim) -> bool:
        """Whether it was put back, since a thread cannot enforce its limit."""
        limit = limits_for(claim.message, self._desk.conf).any
        if limit is None:
            return False
        text = (
            f"expected `async def` or no time limit, got: {limit:g} s for a function that runs in a thread, which "
            f"cannot be stopped; serve its queue with a worker of processes"
        )
        failure = Failure(type="worker.no_time_limit", message=text)
        self._desk.books.report(claim, Retry(failure=failure, delay=delay_after_loss(claim.message)))
        return True


def _is_async(name: str) -> bool:
    try:
        return get_task(name).is_async
    except UnknownTask:
        return False  # which is what a thread finds out, too
