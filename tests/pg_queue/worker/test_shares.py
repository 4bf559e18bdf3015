"""How claims are divided among queues: in their order, or by weight."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from pg_queue.api import current_message, task
from pg_queue.domain import Claim
from pg_queue.worker.options import parse_queues
from pg_queue.worker.pools import pace
from pg_queue.worker.shares import Shares
from tests.pg_queue.worker.conftest import Start, add, outcome
from tests.pg_queue.worker.test_children import claims


class Waiting:
    """Queues with so many messages each; `claim` is what a store's does."""

    def __init__(self, **counts: int) -> None:
        self.counts, self.asked, self.is_away = Counter(counts), 0, False

    def claim(self, queues: Sequence[str], limit: int) -> list[Claim] | None:
        """In the order of the queues."""
        self.asked += 1
        if self.is_away:
            return None
        found: list[Claim] = []
        for queue in queues:
            count = min(limit - len(found), self.counts[queue])
            self.counts[queue] -= count
            found += claims(count, queue=queue) if count else []
        return found


def taken(shares: Shares, waiting: Waiting, limit: int, times: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for _ in range(times):
        found = shares.claim(limit, waiting.claim)
        assert found is not None
        assert len(found) <= limit
        counts.update(claim.message.queue for claim in found)
    return counts


@pytest.mark.parametrize(("limit", "times"), [(1, 400), (7, 57), (100, 4), (400, 1)])
def test_while_all_have_work_each_queue_gets_its_share(limit: int, times: int) -> None:
    counts = taken(Shares(["a", "b"], {"a": 3, "b": 1}), Waiting(a=1000, b=1000), limit, times)
    assert abs(counts["a"] - 3 * counts["b"]) <= 3
    assert counts.total() == limit * times


def test_what_one_queue_does_not_use_goes_to_the_others_and_is_not_owed_to_it_later() -> None:
    shares, waiting = Shares(["a", "b", "c"], {"a": 5, "b": 3, "c": 2}), Waiting(b=2000, c=2000)
    counts = taken(shares, waiting, 10, 50)
    assert counts == Counter(b=pytest.approx(300, abs=10), c=pytest.approx(200, abs=10))
    waiting.counts["a"] = 1000
    counts = taken(shares, waiting, 10, 50)
    assert counts == Counter(a=pytest.approx(250, abs=5), b=pytest.approx(150, abs=10), c=pytest.approx(100, abs=10))


def test_without_weights_the_queues_are_served_in_their_order_by_one_statement() -> None:
    waiting = Waiting(a=5, b=5)
    assert taken(Shares(["a", "b"]), waiting, 6, 1) == Counter(a=5, b=1)
    assert waiting.asked == 1


def test_a_queue_is_asked_alone_only_while_it_has_what_is_due_to_it() -> None:
    waiting = Waiting(b=3)
    shares = Shares(["a", "b"], {"a": 3, "b": 1})
    assert taken(shares, waiting, 1, 3) == Counter(b=3), "one that has nothing keeps nobody waiting"


def test_what_was_claimed_before_the_store_went_away_is_not_lost() -> None:
    waiting = Waiting(a=10, b=10)
    shares = Shares(["a", "b"], {"a": 1, "b": 1})

    def once(queues: Sequence[str], limit: int) -> list[Claim] | None:
        found = waiting.claim(queues, limit)
        waiting.is_away = True
        return found

    found = shares.claim(4, once)
    assert found is not None
    assert [claim.message.queue for claim in found] == ["a", "a"]
    assert shares.claim(4, once) is None


@pytest.mark.parametrize(
    ("text", "queues", "weights"),
    [
        ("default", ("default",), None),
        (" a, b ,a,", ("a", "b"), None),
        ("a=3,b=1", ("a", "b"), {"a": 3, "b": 1}),
        ("a = 3 , b=1000", ("a", "b"), {"a": 3, "b": 1000}),
    ],
)
def test_queues_are_read_with_or_without_weights(text: str, queues: Any, weights: Any) -> None:
    assert parse_queues(text) == (queues, weights)


@pytest.mark.parametrize("text", ["", ",", "a=3,b", "a=0", "a=1001", "a=-1", "a=x", "a=", "a=1.5", "a=²"])
def test_queues_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"names separated by commas|with a weight from 1 to 1000"):
        parse_queues(text)


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
@pytest.mark.usefixtures("own_tasks")
def test_a_worker_runs_its_queues_in_their_shares(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "AHEAD_SECONDS", 0)  # what is claimed at once runs queue by queue
    ran: list[str] = []
    all_there = threading.Event()

    @task("test.queue")
    def queue_of_it() -> None:
        assert all_there.wait(30)
        message = current_message()
        assert message is not None
        ran.append(message.queue)

    ids = [add("test.queue", queue=queue) for queue in ("a", "b") for _ in range(24)]
    start(concurrency=1, queues=("a", "b"), weights={"a": 3, "b": 1})
    all_there.set()
    for message_id in ids:
        outcome(message_id)
    assert Counter(ran[:32]) == Counter(a=24, b=8)
    assert Counter(ran) == Counter(a=24, b=24)
