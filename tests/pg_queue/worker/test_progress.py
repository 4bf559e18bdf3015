"""What executions say of themselves, on its way to the store."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from pg_queue.domain import Claim, Message, MessageState, Progress
from pg_queue.worker import progress
from pg_queue.worker.progress import Board, Teller
from tests.pg_queue.worker.conftest import until

NOW = datetime.now(UTC)


def a_claim() -> Claim:
    message = Message(
        id=uuid.uuid4(),
        task="t",
        args=[],
        kwargs={},
        queue="default",
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
    return Claim(message=message, token=uuid.uuid4(), lease_until=NOW)


def test_the_latest_word_of_each_is_passed_on_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    board, one, other, ended = Board(), a_claim(), a_claim(), a_claim()
    for number in range(5):
        board.note(one, Progress(done=number, total=5))
    board.reporter_for(other)(other.message, Progress(done=1))
    board.note(ended, Progress(done=1))
    board.forget(ended.token)
    assert board.due() == [
        (one.message.id, one.token, Progress(done=4, total=5)),
        (other.message.id, other.token, Progress(done=1)),
    ]
    board.note(one, Progress(done=5, total=5))
    assert board.due() == [], "too soon"
    clock[0] += progress.PAUSE_SECONDS
    assert [done.done for _, _, done in board.due()] == [5]


def test_a_child_sends_its_last_word_without_having_to_say_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PAUSE_SECONDS", 0.01)
    sent: list[tuple[int, float]] = []
    has_last = threading.Event()

    def send(number: int, said: Progress) -> None:
        sent.append((number, said.done))
        if said.done == 999:
            has_last.set()

    teller, message = Teller(send), a_claim().message
    teller.begin(7)
    for number in range(1000):
        teller(message, Progress(done=number, total=1000))
    assert has_last.wait(30)
    assert sent[-1] == (7, 999)
    assert len(sent) < 500, "not each word"


def test_of_what_has_ended_nothing_more_is_sent() -> None:
    sent: list[Any] = []
    may_send, first = threading.Event(), threading.Event()

    def send(number: int, said: Progress) -> None:
        sent.append(number)
        first.set()
        may_send.wait(30)

    teller, message = Teller(send), a_claim().message
    teller.begin(1)
    teller(message, Progress(done=0))
    assert first.wait(30)
    teller(message, Progress(done=1))
    teller.begin(2)
    may_send.set()
    teller(message, Progress(done=1))
    until(lambda: len(sent) == 2, what="the second message's word")
    assert sent == [1, 2]
