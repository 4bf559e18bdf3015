"""What waits for the store of results: put in batches, kept while it is away, given up in the end."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pg_queue.domain import Claim, Death, Failure, Message, MessageState, Retry, Settlement, Success
from pg_queue.errors import ResultRefused, ResultsUnavailable
from pg_queue.results.domain import Outcome
from pg_queue.worker import deposits as module
from pg_queue.worker.deposits import Deposits

FAILURE = Failure(type="ValueError", message="no")
BEGUN = datetime(2030, 1, 1, tzinfo=UTC)


def claim(**fields: Any) -> Claim:
    """A claim of the second of three attempts."""
    values = {"attempts": 2, "max_attempts": 3, "task": "unheard.of", **fields}
    message = Message(
        id=uuid.uuid4(),
        args=[],
        kwargs={},
        queue="default",
        priority=5,
        state=MessageState.RUNNING,
        run_after=BEGUN,
        enqueued_at=BEGUN,
        started_at=BEGUN,
        finished_at=None,
        headers={},
        organization_id="",
        **values,
    )
    return Claim(message=message, token=uuid.uuid4(), lease_until=BEGUN)


class Store:
    """Keeps what it is given, refuses what says so, and is away as long as `error` is set."""

    def __init__(self) -> None:
        self.kept: list[Outcome] = []
        self.batches: list[int] = []
        self.probes = 0
        self.error: Exception | None = None

    def put(self, outcomes: Sequence[Outcome]) -> None:
        self.batches.append(len(outcomes))
        if self.error:
            raise self.error
        if any(one.value == "refused" for one in outcomes):
            raise ResultRefused("too wide")
        self.kept += outcomes

    def now(self) -> datetime:
        self.probes += 1
        if self.error:
            raise self.error
        return BEGUN


class Bench:
    """Deposits on such a store, with a hand to turn them."""

    def __init__(self, **options: Any) -> None:
        self.store, self._woken = Store(), threading.Semaphore(0)
        values = {"give_up_seconds": 60.0, "most_waiting": 10, **options}
        self.deposits = Deposits(self.store, **values)  # type: ignore[arg-type]
        self.deposits.start(self._woken.release)

    def turn(self) -> list[Settlement]:
        """Send what waits, wait for the answer, and take it."""
        before = self.deposits.flush()
        assert self._woken.acquire(timeout=60)
        return before + self.deposits.flush()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(module, "RETRY_MAX_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("ended", "fields", "taken"),
    [
        (Success(value=1), {}, True),
        (Success(), {}, True),
        (Death(failure=FAILURE), {}, True),
        (Retry(failure=FAILURE, delay=timedelta()), {}, False),
        (Retry(failure=FAILURE, delay=timedelta()), {"attempts": 3}, True),
        (Success(), {"task": "test.deposits.forgotten"}, False),
    ],
)
def test_the_store_is_told_of_ends_only(ended: Any, fields: dict[str, Any], taken: bool) -> None:
    from pg_queue.api import task

    task("test.deposits.forgotten", keep_result=False)(test_the_store_is_told_of_ends_only)
    assert Bench().deposits.takes(claim(**fields), ended) is taken
    without = Deposits(None, give_up_seconds=1, most_waiting=1)
    assert not without.takes(claim(**fields), ended)


def test_what_the_store_has_is_settled_without_its_value() -> None:
    bench, ttl = Bench(), timedelta(seconds=5)
    first, second = claim(), claim(attempts=3)
    bench.deposits.add(first, Success(value=[1], ttl=ttl))
    bench.deposits.add(second, Retry(failure=FAILURE, delay=timedelta(seconds=9)))
    settled = bench.turn()
    assert [one.token for one in settled] == [first.token, second.token]
    assert settled[0].outcome == Success(value=None, ttl=ttl)
    assert settled[1].outcome == Retry(failure=FAILURE, delay=timedelta(seconds=9))
    kept = {one.message_id: one for one in bench.store.kept}
    assert (kept[first.message.id].value, kept[first.message.id].ttl) == ([1], ttl)
    assert (kept[second.message.id].state, kept[second.message.id].error) == (MessageState.FAILED, FAILURE)
    assert kept[first.message.id].started_at == BEGUN
    assert bench.deposits.pending == 0
    bench.deposits.stop()


def test_one_that_is_refused_dies_and_the_others_are_kept() -> None:
    bench, claims = Bench(), [claim() for _ in range(9)]
    for number, one in enumerate(claims):
        bench.deposits.add(one, Success(value="refused" if number == 4 else number))
    outcomes = {one.message_id: one.outcome for one in bench.turn()}
    assert set(outcomes) == {one.message.id for one in claims}
    dead = outcomes.pop(claims[4].message.id)
    assert isinstance(dead, Death)
    assert dead.failure.type == "task.result_refused"
    assert set(outcomes.values()) == {Success(value=None)}
    assert sorted(one.value for one in bench.store.kept) == [0, 1, 2, 3, 5, 6, 7, 8]
    bench.deposits.stop()


@pytest.mark.parametrize("error", [ResultsUnavailable("gone"), RuntimeError("a bug of the store's own")])
def test_while_the_store_is_away_nothing_is_settled_and_more_is_not_wanted(error: Exception) -> None:
    bench = Bench()
    bench.store.error = error
    bench.deposits.add(claim(), Success(value=1))
    assert bench.turn() == []
    assert bench.deposits.is_behind
    assert bench.deposits.pending == 1
    bench.store.error = None
    assert len(bench.turn()) == 1
    assert not bench.deposits.is_behind
    bench.deposits.stop()


def test_what_waited_too_long_is_tried_again_and_failures_are_settled_as_they_are() -> None:
    bench = Bench(give_up_seconds=0.0)
    bench.store.error = ResultsUnavailable("gone")
    bench.deposits.add(claim(), Success(value=1))
    bench.deposits.add(claim(), Death(failure=FAILURE))
    given_up, failed = bench.deposits.flush()
    assert isinstance(given_up.outcome, Retry)
    assert given_up.outcome.failure.type == "results.unavailable"
    assert failed.outcome == Death(failure=FAILURE)
    bench.deposits.stop()


def test_a_store_that_was_away_is_asked_for_the_time_before_anything_is_claimed() -> None:
    bench = Bench()
    bench.store.error = ResultsUnavailable("gone")
    bench.deposits.add(claim(), Success(value=1))
    bench.turn()
    bench.deposits.close()
    bench.deposits._close_at = 0.0  # the little longer is over
    assert [type(one.outcome) for one in bench.deposits.flush()] == [Retry]
    bench.deposits._close_at = None
    bench.store.error = None
    bench.deposits._retry_at = 0.0
    for _ in range(3):
        if bench.deposits.is_behind:
            bench.turn()
    assert not bench.deposits.is_behind
    assert bench.store.probes >= 1
    bench.deposits.stop()


def test_more_than_the_store_takes_at_once_is_sent_in_batches_and_holds_up_claims() -> None:
    bench = Bench(most_waiting=100)
    for number in range(module.BATCH + 150):
        bench.deposits.add(claim(), Success(value=number))
    assert bench.deposits.is_behind
    assert len(bench.turn()) == module.BATCH
    assert len(bench.turn()) == 150
    assert bench.store.batches == [module.BATCH, 150]
    assert not bench.deposits.is_behind
    bench.deposits.stop()
