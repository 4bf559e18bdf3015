"""The worker's dealings with its children, where only the right moment shows a fault."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError

from pg_queue.domain import (
    Claim,
    Death,
    Failure,
    Message,
    MessageState,
    Retry,
    Settled,
    Settlement,
    Success,
)
from pg_queue.errors import SoftTimeLimitExceeded
from pg_queue.process import StopSignals
from pg_queue.settings import QueueSettings
from pg_queue.worker import child as protocol
from pg_queue.worker.books import Books
from pg_queue.worker.holdings import Holdings
from pg_queue.worker.loop import Worker
from pg_queue.worker.options import WorkerOptions
from pg_queue.worker.pools.children import Child, Children
from pg_queue.worker.pools.process import ProcessPool
from pg_queue.worker.wire import frame, packed

OPTIONS = WorkerOptions(queues=("default",), concurrency=1, drain_seconds=1, pool="process")
FAILURE = Failure(type="ValueError", message="no")
NOW = datetime.now(UTC)


def claims(count: int, queue: str = "default") -> list[Claim]:
    first = Message(
        id=uuid.uuid4(),
        task="noop",
        args=[],
        kwargs={},
        queue=queue,
        priority=5,
        state=MessageState.RUNNING,
        attempts=1,
        max_attempts=3,
        run_after=NOW,
        enqueued_at=NOW,
        started_at=NOW,
        finished_at=None,
        headers={},
        organization_id="",
    )
    return [Claim(message=replace(first, id=uuid.uuid4()), token=uuid.uuid4(), lease_until=NOW) for _ in range(count)]


class DeadProcess:
    """A child process that was killed."""

    pid, exitcode = None, -9

    def __init__(self) -> None:
        self.sentinel, self._write = os.pipe()

    def is_alive(self) -> bool:
        return False

    def join(self, timeout: float | None = None) -> None:
        os.close(self._write)

    def close(self) -> None:
        os.close(self.sentinel)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(OPTIONS, StopSignals())
    yield made
    made._selector.close()


def dead_child(worker: Worker, assigned: list[Claim], *sent: Any) -> Child:
    """A child that has died after it sent these frames."""
    ours, theirs = socket.socketpair()
    with theirs:
        for values in sent:
            theirs.sendall(frame(values))
    ours.setblocking(False)
    found = Child(process=DeadProcess(), channel=ours)  # type: ignore[arg-type]
    found.assigned.extend(assigned)
    pool_of(worker)._children.add(found)
    return found


def pool_of(worker: Worker) -> ProcessPool:
    assert isinstance(worker._pool, ProcessPool)
    return worker._pool


def reported(worker: Worker) -> dict[uuid.UUID, Any]:
    return {settlement.message_id: settlement.outcome for settlement in worker._books._unsettled}


@pytest.mark.parametrize("why", ["time_limit", "lost"])
def test_a_kill_that_comes_too_late_does_not_blame_the_next_message(worker: Worker, why: str) -> None:
    first, second, third = claims(3)
    found = dead_child(worker, [first, second, third], (protocol.DONE, first.token.int, (None,)))
    found.kill(why)
    pool_of(worker)._bury(found)
    outcomes = reported(worker)
    assert outcomes[first.message.id] == Success()
    assert outcomes[second.message.id].failure.type == "worker.exited"
    assert [claim.message.id for claim in worker._books._unreleased] == [third.message.id]


def test_a_report_of_another_message_ends_that_child_only(worker: Worker) -> None:
    (first,) = claims(1)
    found = dead_child(worker, [first], (protocol.DONE, uuid.uuid4().int, (None,)))
    pool_of(worker)._receive(found)
    assert found.killed_for == "garbled"
    pool_of(worker)._bury(found)
    assert reported(worker)[first.message.id].failure.type == "worker.exited"


def claimed_twice(worker: Worker) -> tuple[Claim, Claim]:
    """A claim that the worker has lost, and one that it has made since, on the same message."""
    (stale,) = claims(1)
    current = replace(stale, token=uuid.uuid4())
    worker._holdings.add([stale])
    worker._holdings.add([current])
    return stale, current


def test_an_execution_whose_message_was_claimed_again_is_killed_and_the_new_claim_given_back(worker: Worker) -> None:
    stale, current = claimed_twice(worker)
    found = dead_child(worker, [stale, current])
    pool_of(worker).lose({stale.token})
    assert found.killed_for == "lost"
    pool_of(worker)._bury(found)
    assert reported(worker) == {}
    assert worker._books._unreleased == [current]
    assert worker._holdings.pairs() == [(current.message.id, current.token)]


def test_the_new_claim_is_not_killed_for_the_old_one(worker: Worker) -> None:
    stale, current = claimed_twice(worker)
    old, new = dead_child(worker, [stale]), dead_child(worker, [current])
    pool_of(worker).lose({stale.token})
    assert (old.killed_for, new.killed_for) == ("lost", None)


def test_what_is_called_back_of_a_message_is_not_its_running_execution(worker: Worker) -> None:
    stale, current = claimed_twice(worker)
    found = dead_child(worker, [stale, current], (protocol.RETURNED, [current.token.int]))
    pool_of(worker)._receive(found)
    assert list(found.assigned) == [stale]
    assert worker._books._unreleased == [current]


def test_an_outcome_under_a_lost_claim_leaves_the_new_claim_to_be_renewed(worker: Worker) -> None:
    stale, current = claimed_twice(worker)
    store = Refusing(set(), "", held={current.token})
    books = Books(store, OPTIONS, QueueSettings(), worker._holdings)  # type: ignore[arg-type]
    books.report(stale, Success())
    books.flush()
    assert worker._holdings.pairs() == [(current.message.id, current.token)]
    assert (books.figures.lost, books.figures.finished) == (1, 0)


def test_what_is_taken_back_never_surrounds_what_has_begun() -> None:
    """Were it taken back one by one, the running thread could take one out in between."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            inbox, taken, begun = protocol.Inbox(), [], []
            given = [(claim.token.int, claim.message) for claim in claims(30)]
            inbox.put(given)
            start = threading.Barrier(2)

            def run(inbox: protocol.Inbox = inbox, begun: list[Any] = begun, start: Any = start) -> None:
                start.wait()
                for _ in range(10):
                    begun.append(inbox.get())

            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            start.wait()
            taken = inbox.take_back()
            inbox.put(given[:10])
            thread.join(60)
            assert taken == given[len(given) - len(taken) :]
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def soft_limit() -> Iterator[protocol.SoftLimit]:
    before = signal.getsignal(signal.SIGUSR1)
    yield protocol.SoftLimit()
    signal.signal(signal.SIGUSR1, before)


def test_a_soft_limit_that_was_meant_for_the_message_before_is_dropped(soft_limit: protocol.SoftLimit) -> None:
    with soft_limit.of(1, SoftTimeLimitExceeded):
        pass
    with soft_limit.of(2, SoftTimeLimitExceeded):
        soft_limit.ask(1, 0.5)
    with pytest.raises(SoftTimeLimitExceeded, match=r"of 0\.5 s"), soft_limit.of(3, SoftTimeLimitExceeded):
        soft_limit.ask(3, 0.5)


def test_a_child_is_claimed_for_when_half_of_what_it_may_have_is_done_not_only_when_it_has_nothing(
    worker: Worker,
) -> None:
    found = dead_child(worker, claims(6))
    found.is_ready, found.pace.average_seconds = True, 0.005  # ten beforehand
    assert pool_of(worker).room() == 0
    found.assigned.popleft()
    assert pool_of(worker).room() == 6
    found.assigned.clear()
    assert pool_of(worker).room() == 11
    found.stands_by = True
    assert pool_of(worker).room() == 0


def test_a_child_is_given_no_more_than_it_may_still_run(worker: Worker) -> None:
    found = dead_child(worker, [])
    found.is_ready, found.pace.average_seconds, found.most_executions, found.executions = True, 0.001, 10, 7
    assert pool_of(worker).room() == 3
    (last,) = claims(1)
    found.assigned.append(last)
    found.executions = 9
    found.finished(last.token.int)
    assert (found.leaving, pool_of(worker).room()) == ("tasks", 0)


def frames_of(one: Child, count: int) -> list[Any]:
    """The next frames that the child sends."""
    found: list[Any] = []
    one.channel.settimeout(60)
    while len(found) < count:
        found += one.frames.feed(one.channel.recv(protocol.RECEIVE_BYTES))
    return found


def test_a_child_that_is_too_large_begins_nothing_that_it_was_handed_before_or_is_after_it() -> None:
    children = Children(1, watch=lambda child: None, max_memory_mb=1)
    children.turn()
    (one,) = children
    try:
        assert frames_of(one, 1) == [(protocol.READY,)]
        first, *behind = claims(3)
        one.channel.sendall(frame((protocol.RUN, [packed(claim) for claim in (first, *behind)])))
        done, (kind, megabytes, returned) = frames_of(one, 2)
        assert done[:2] == (protocol.DONE, first.token.int)
        assert (kind, returned) == (protocol.TOO_LARGE, [claim.token.int for claim in behind])
        assert megabytes > 1
        (late,) = claims(1)
        one.channel.sendall(frame((protocol.RUN, [packed(late)])))
        assert frames_of(one, 1) == [(protocol.RETURNED, [late.token.int])]
    finally:
        children.close()


def test_a_child_that_cannot_be_started_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Children(1, watch=lambda child: None)

    def refuse(zygote: object) -> Child:
        raise ConnectionRefusedError

    monkeypatch.setattr(pool, "_spawn", refuse)
    pool.turn()
    assert list(pool) == []
    assert (pool.seconds_until_turn() or 0) > 0


class Refusing:
    """A store that refuses some messages' outcomes as PostgreSQL would, each time; all tokens hold, or those `held`."""

    def __init__(self, refused: set[uuid.UUID], sqlstate: str, held: set[uuid.UUID] | None = None) -> None:
        self.refused, self.sqlstate, self.settled = refused, sqlstate, dict[uuid.UUID, Any]()
        self.held = held

    def settle(self, batch: list[Settlement]) -> dict[uuid.UUID, Settled]:
        for one in batch:
            ours = isinstance(one.outcome, Death) and one.outcome.failure.type == "task.result_refused"
            if one.message_id in self.refused and not ours:
                raise DatabaseError("refused") from self.cause()
        self.settled |= {one.message_id: one.outcome for one in batch}
        return {
            one.token: Settled.DONE if self.held is None or one.token in self.held else Settled.LOST for one in batch
        }

    def cause(self) -> Exception:
        error = Exception()
        error.sqlstate = self.sqlstate  # type: ignore[attr-defined]
        return error


@pytest.mark.parametrize(
    "outcome", [Success(value=1), Retry(failure=FAILURE, delay=timedelta()), Death(failure=FAILURE)]
)
@pytest.mark.parametrize("sqlstate", ["22P05", "22008", "54000"])
def test_one_outcome_that_cannot_be_kept_holds_up_no_other(outcome: Any, sqlstate: str) -> None:
    held = claims(20)
    bad = held[7].message.id
    store = Refusing({bad}, sqlstate)
    books = Books(store, OPTIONS, QueueSettings(), Holdings())  # type: ignore[arg-type]
    for claim in held:
        books.report(claim, outcome)
    books.flush()
    assert books.is_clear
    assert store.settled.keys() == {claim.message.id for claim in held}
    assert store.settled.pop(bad).failure.type == "task.result_refused"
    assert set(map(type, store.settled.values())) == {type(outcome)}


@pytest.mark.django_db
def test_outcomes_outlive_an_error_of_any_kind() -> None:
    (one,) = claims(1)
    store = Refusing({one.message.id}, "25006")  # the server has become a standby
    books = Books(store, OPTIONS, QueueSettings(), Holdings())  # type: ignore[arg-type]
    books.report(one, Success())
    books.flush()
    assert not books.is_clear
    assert books.seconds_until_claim() > 0
