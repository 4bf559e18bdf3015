"""What one execution's end means for its message."""

from __future__ import annotations

import math
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction

from pg_queue import api
from pg_queue.domain import Claim, Death, Message, MessageState, Retry, Success
from pg_queue.models import Worker
from pg_queue.worker.execution import MESSAGE_CHARACTERS, TRACEBACK_CHARACTERS, backoff, failure_of, outcome_of
from pg_queue.worker.holdings import Holdings
from pg_queue.worker.wire import Frames, frame, packed, packed_outcome, unpacked, unpacked_outcome

pytestmark = pytest.mark.django_db  # an execution looks after Django's connections

GONE = Success(keep=False)
MESSAGE = Message(
    id=uuid.uuid4(),
    task="test.slow_to_retry",
    args=[],
    kwargs={},
    queue="default",
    priority=5,
    state=MessageState.RUNNING,
    attempts=1,
    max_attempts=3,
    run_after=datetime.now(UTC),
    enqueued_at=datetime.now(UTC),
    started_at=datetime.now(UTC),
    finished_at=None,
    headers={},
    organization_id="",
)


def claim_of(message: Message) -> Claim:
    return Claim(message=message, token=uuid.uuid4(), lease_until=message.run_after)


def slow() -> Any:
    """Return the id that the task sees."""
    message = api.current_message()
    return str(message.id) if message else None


@pytest.fixture(autouse=True)
def _task() -> None:
    api.task("test.slow_to_retry", retry_backoff_seconds=10)(slow)


def test_a_task_sees_its_message_only_while_it_runs() -> None:
    assert outcome_of(MESSAGE) == Success(value=str(MESSAGE.id))
    assert api.current_message() is None


def test_the_backoff_doubles_and_is_capped_after_its_jitter() -> None:
    delays = [backoff(replace(MESSAGE, attempts=attempts)).total_seconds() for attempts in (1, 2, 3, 12, 32767)]
    for delay, base in zip(delays, (10, 20, 40), strict=False):
        assert base <= delay <= base * 1.25
    assert delays[3:] == [3600.0, 3600.0]


def test_an_error_is_kept_bounded_and_storable() -> None:
    def deep(depth: int) -> None:
        if not depth:
            raise ValueError("a\x00b\ud800" + "x" * 5000)
        deep(depth - 1)

    with pytest.raises(ValueError) as caught:
        deep(400)
    failure = failure_of(caught.value)
    assert failure.type == "ValueError"
    assert failure.message.startswith("a\\x00b\\ud800")
    assert len(failure.message) == MESSAGE_CHARACTERS
    assert len(failure.traceback) <= TRACEBACK_CHARACTERS + 100
    assert failure.traceback.rstrip().endswith("x")


def test_an_exception_whose_text_raises_is_kept_all_the_same() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "RuntimeError" in failure_of(Broken()).message


@pytest.mark.parametrize(
    ("raised", "kind"),
    [(api.GiveUp("no"), Death), (api.RetryLater(delay_seconds=7), Retry), (SystemExit(1), Retry), (KeyError(1), Retry)],
)
def test_whatever_is_raised_becomes_an_outcome(
    raised: BaseException, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(message: Message) -> None:
        raise raised

    monkeypatch.setattr("pg_queue.worker.execution.execute", execute)
    outcome = outcome_of(MESSAGE)
    assert isinstance(outcome, kind)
    if isinstance(raised, api.RetryLater):
        assert isinstance(outcome, Retry)
        assert outcome.delay.total_seconds() == 7


@pytest.mark.parametrize("asked", [math.inf, math.nan, -1, 1e300, 10**400, "soon"])
def test_a_senseless_delay_is_still_one_that_can_be_kept(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(message: Message) -> None:
        raise api.RetryLater(delay_seconds=asked)

    monkeypatch.setattr("pg_queue.worker.execution.execute", execute)
    outcome = outcome_of(MESSAGE)
    assert isinstance(outcome, Retry)
    assert timedelta() <= outcome.delay <= timedelta(days=3653)


class Hostile(dict[str, Any]):
    """A result whose own methods raise."""

    def items(self) -> Any:
        """Raise."""
        raise LookupError

    def __repr__(self) -> str:
        raise LookupError


def deep() -> list[Any]:
    """Lists in lists, too many."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [[10**5000], deep(), deep()[0:1] * 2, Hostile(a=1), Decimal(1), {b"k": 1}, {"k": "\x00"}]
)
def test_a_result_that_json_cannot_hold_is_a_death_that_says_so(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pg_queue.worker.execution.execute", lambda message: value)
    outcome = outcome_of(MESSAGE)
    assert isinstance(outcome, Death)
    assert outcome.failure.type == "task.result_not_json"


@pytest.mark.parametrize(("result", "kept"), [("value", Success(value=3)), ("state", Success()), ("none", GONE)])
def test_a_task_says_how_much_of_its_success_is_kept(result: Any, kept: Success) -> None:
    api.task(f"leaves.{result}", result=result)(lambda: 3)
    outcome = outcome_of(replace(MESSAGE, task=f"leaves.{result}"))
    assert outcome == kept
    assert unpacked_outcome(packed_outcome(outcome)) == kept


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"result": "some"}, "result: expected one of value, state, none, got: 'some'"),
        ({"result": "none", "keep_result": False}, "result: expected it without keep_result=False, got: 'none'"),
    ],
)
def test_what_is_kept_is_said_once_and_by_its_name(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        api.task("test.never_registered", **said)(lambda: None)
    assert "test.never_registered" not in {one.name for one in api.tasks()}


def test_no_exception_is_too_strange_to_be_kept() -> None:
    class Strange(Exception):
        def __str__(self) -> str:
            raise SystemExit(9)

    Strange.__qualname__ = "a\x00\ud800" + "x" * 5000
    failure = failure_of(Strange())
    assert "SystemExit" in failure.message
    assert "\x00" not in failure.type
    assert len(failure.type) <= 255
    failure.type.encode()


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_a_transaction_that_a_task_left_open_fails_it_and_touches_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(message: Message) -> None:
        transaction.atomic().__enter__()
        Worker.objects.create(id="h:1:1", host="h", process_id=1, concurrency=1)

    monkeypatch.setattr("pg_queue.worker.execution.execute", execute)
    outcome = outcome_of(MESSAGE)
    assert isinstance(outcome, Retry)
    assert "transaction" in outcome.failure.message
    assert not connection.in_atomic_block
    assert not Worker.objects.exists()


def test_frames_arrive_whole_whatever_the_pieces() -> None:
    claim = claim_of(MESSAGE)
    data = frame(["one", packed(claim)]) + frame("two") + frame("cut off")[:-1]
    frames = Frames()
    found = [value for at in range(len(data)) for value in frames.feed(data[at : at + 1])]
    assert [found[0][0], found[1]] == ["one", "two"]
    assert unpacked(found[0][1]) == (claim.token.int, MESSAGE)
    assert len(found) == 2


def test_a_claim_that_is_being_settled_is_not_taken_for_lost() -> None:
    holdings, claims = Holdings(), [claim_of(replace(MESSAGE, id=uuid.uuid4())) for _ in range(3)]
    holdings.add(claims)
    asked, tokens = holdings.pairs(), [claim.token for claim in claims]
    assert asked == [(claim.message.id, claim.token) for claim in claims]
    holdings.leaving([tokens[0]])
    holdings.drop([tokens[1]])
    assert holdings.lost(asked, set()) == {tokens[2]}
    assert holdings.lost(asked, {tokens[2]}) == set()


def test_of_two_claims_on_one_message_the_one_that_was_not_renewed_is_lost() -> None:
    holdings, stale, current = Holdings(), claim_of(MESSAGE), claim_of(MESSAGE)
    holdings.add([stale])
    asked_before = holdings.pairs()
    holdings.add([current])
    assert holdings.lost(asked_before, set()) == {stale.token}
    assert holdings.lost(holdings.pairs(), {current.token}) == {stale.token}
    holdings.drop([stale.token])
    assert holdings.pairs() == [(MESSAGE.id, current.token)]
    assert len(holdings) == 1
