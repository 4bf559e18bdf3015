"""Tasks in child processes: a task that exits, crashes or hangs costs one child and one attempt."""

from __future__ import annotations

import logging
import math
import selectors
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from pg_queue.domain import Claim, Failure, Progress, Retry
from pg_queue.health.metrics import CHILD_EXITS
from pg_queue.worker import child as protocol
from pg_queue.worker.execution import delay_after_loss
from pg_queue.worker.limits import Limits, limits_for
from pg_queue.worker.pool import Desk
from pg_queue.worker.pools.children import Child, Children, how_it_ended
from pg_queue.worker.pools.pace import RECALL_SECONDS
from pg_queue.worker.wire import unpacked_outcome

logger = logging.getLogger(__name__)


class ProcessPool:
    """Implements `pg_queue.worker.pool.Pool`."""

    stop_seconds: ClassVar[float] = math.inf
    is_alive: ClassVar[bool] = True

    def __init__(self, desk: Desk) -> None:
        self._options, self._conf, self._books = desk.options, desk.conf, desk.books
        self._selector = desk.selector
        self._children = Children(
            desk.options.concurrency,
            watch=self._watch,
            wake=desk.wake,
            max_memory_mb=desk.options.max_memory_per_child_mb,
        )
        self._ended: list[Child] = []

    @property
    def busy(self) -> int:
        """See the port."""
        return sum(len(one.assigned) for one in list(self._children))

    @property
    def process_ids(self) -> Sequence[int]:
        """See the port."""
        return [one.process_id for one in list(self._children)]

    def room(self) -> int:
        """See the port. While all children are busy, few large claims cost less than many small ones."""
        most = self._conf.claim_batch
        rooms = {one: max(0, one.room(most)) for one in self._children}
        room = sum(rooms.values())
        if any(free and not one.assigned for one, free in rooms.items()):
            return room
        capacity = sum(one.capacity(most) for one in self._children)
        return room if room * 2 >= min(most, capacity) else 0

    def start(self) -> None:
        """See the port: children are started by `turn`."""

    def take(self, claims: Sequence[Claim]) -> None:
        """See the port: each to the child that has least before it."""
        most = self._conf.claim_batch
        room = {one: one.room(most) for one in self._children}
        load = {one: len(one.assigned) for one in self._children}
        batches: dict[Child, list[Claim]] = {one: [] for one in self._children}
        for claim in claims:
            chosen = min((one for one in batches if room[one] > 0), key=load.__getitem__)
            batches[chosen].append(claim)
            room[chosen] -= 1
            load[chosen] += 1
        for one, batch in batches.items():
            if batch:
                one.assign(batch)
        self._arrange_writing()

    def turn(self) -> None:
        """See the port."""
        for one in self._ended:
            self._bury(one)
        self._ended.clear()
        self._children.turn()
        self._enforce_limits()
        self._arrange_writing()

    def deadlines(self, now: float) -> Iterator[float]:
        """See the port."""
        for one in self._children:
            yield from filter(None, (self._limit_at(one), self._soft_limit_at(one), self._recall_at(one)))
        if (seconds := self._children.seconds_until_turn()) is not None:
            yield now + seconds

    def lose(self, tokens: Collection[UUID]) -> None:
        """See the port."""
        for one in self._children:
            if one.assigned and one.assigned[0].token in tokens:
                one.kill("lost")
            elif any(claim.token in tokens for claim in one.assigned):
                one.recall()

    def drain(self, *, is_over: bool) -> None:
        """See the port."""
        for one in self._children:
            if is_over and one.assigned:
                one.kill("stopped")
            else:
                one.recall()
        self._arrange_writing()

    def reload(self) -> None:
        """See the port."""
        self._children.reload()

    def close(self) -> None:
        """See the port."""
        self._children.close()

    def details(self) -> dict[str, Any]:
        """See the port."""
        return {"children": len(self._children)}

    # What children say, and how they end

    def _watch(self, started: Child) -> None:
        started.most_executions = self._options.max_tasks_per_child
        self._selector.register(started.channel, selectors.EVENT_READ, partial(self._receive, started))
        # What has ended is buried when everything that was ready is read: its channel may be among that.
        self._selector.register(started.process.sentinel, selectors.EVENT_READ, partial(self._ended.append, started))

    def _arrange_writing(self) -> None:
        for one in self._children:
            one.flush()
            if one.is_cut:
                continue
            key = self._selector.get_key(one.channel)
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if one.outbox else 0)
            if key.events != wanted:
                self._selector.modify(one.channel, wanted, key.data)

    def _receive(self, one: Child) -> None:
        try:
            for kind, *values in one.receive():
                self._note(one, kind, values)
        except Exception:  # one child's nonsense must not end the others' work
            logger.exception("worker.child_garbled pid=%s", one.process.pid)
            one.is_cut = True
            one.kill("garbled")
        if one.is_cut:
            self._selector.unregister(one.channel)
            one.end()

    def _note(self, one: Child, kind: str, values: list[Any]) -> None:
        if kind == protocol.READY:
            self._children.note_ready(one)
        elif kind == protocol.DONE:
            number, outcome = values
            self._books.report(one.finished(number), unpacked_outcome(outcome))
        elif kind == protocol.PROGRESS:
            number, done, total, stage = values
            if one.assigned and one.assigned[0].token.int == number:  # else its end was faster
                self._books.board.note(one.assigned[0], Progress(done=done, total=total, stage=stage))
        elif kind == protocol.RETURNED:
            self._books.give_back(one.returned(values[0]))
        elif kind == protocol.TOO_LARGE:
            megabytes, numbers = values
            logger.info("worker.child_too_large pid=%s megabytes=%s", one.process.pid, megabytes)
            one.leave("memory")
            self._books.give_back(one.returned(numbers))

    def _bury(self, gone: Child) -> None:
        """A child has ended: the message that it ran is blamed, those behind it never began."""
        if not gone.is_cut:
            self._receive(gone)
        if not gone.is_cut:
            self._selector.unregister(gone.channel)
        self._selector.unregister(gone.process.sentinel)
        ended = how_it_ended(gone.process.exitcode)
        CHILD_EXITS.labels(gone.killed_for or "exited").inc()
        level = logging.INFO if gone.leaving and gone.killed_for == gone.leaving else logging.WARNING
        logger.log(level, "worker.child_ended pid=%s why=%s; it %s", gone.process.pid, gone.killed_for, ended)
        self._children.remove(gone)
        if gone.assigned:
            running, *behind = gone.assigned
            if gone.killed_at not in (None, running.token):
                # The one that it was killed for was reported in the last moment: what came after is not to blame.
                self._conclude(running, None, f"{ended}, which was meant for the message before")
            else:
                self._conclude(running, gone.killed_for, ended)
            self._books.give_back(behind)

    def _conclude(self, claim: Claim, killed_for: str | None, ended: str) -> None:
        if killed_for == "lost":
            self._books.write_off(claim)
        elif killed_for == "stopped":
            text = f"the worker stopped and the task had not ended within {self._options.drain_seconds:g} s"
            self._books.report(claim, Retry(failure=_failure("worker.stopped", text), delay=timedelta()))
        elif killed_for == "time_limit":
            text = f"it ran longer than its time limit of {self._limits(claim).hard:g} s and was killed"
            self._books.report(
                claim, Retry(failure=_failure("worker.time_limit", text), delay=delay_after_loss(claim.message))
            )
        else:
            text = f"the process that ran it {ended}"
            self._books.report(
                claim, Retry(failure=_failure("worker.exited", text), delay=delay_after_loss(claim.message))
            )

    # Limits

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        for one in self._children:
            if (limit_at := self._limit_at(one)) is not None and limit_at <= now:
                one.kill("time_limit")
                continue
            if (soft_limit_at := self._soft_limit_at(one)) is not None and soft_limit_at <= now:
                one.ask(self._limits(one.assigned[0]).soft or 0.0)
            if (recall_at := self._recall_at(one)) is not None and recall_at <= now:
                one.recall()

    def _limit_at(self, one: Child) -> float | None:
        if not one.assigned or one.killed_for:
            return None
        limit = self._limits(one.assigned[0]).hard
        return None if limit is None else one.busy_since + limit

    def _soft_limit_at(self, one: Child) -> float | None:
        if not one.assigned or one.killed_for or one.asked == one.assigned[0].token:
            return None
        limit = self._limits(one.assigned[0]).soft
        return None if limit is None else one.busy_since + limit

    def _recall_at(self, one: Child) -> float | None:
        if len(one.assigned) < 2 or one.is_recalling or one.killed_for:
            return None
        return one.busy_since + RECALL_SECONDS

    def _limits(self, claim: Claim) -> Limits:
        return limits_for(claim.message, self._conf)


def _failure(kind: str, text: str) -> Failure:
    return Failure(type=kind, message=text)
