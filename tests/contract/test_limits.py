"""The guarantees of `pg_queue.ports.Limits`, by behaviour. Each store that has them passes all of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from pg_queue.domain import RateLimit
from tests.contract.actions import in_threads
from tests.contract.actors import Actor
from tests.contract.harness import Harness

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.capability("limits"),
]
SLOW = RateLimit(count=6, period_seconds=60, burst=3)
"""A token in ten seconds."""


def take(harness: Harness, wanted: int = 1, name: str = "mails", limit: RateLimit = SLOW) -> int:
    return harness.store.limits.take(name, limit, wanted=wanted).count


def test_a_bucket_is_full_at_first_and_gives_no_more_than_it_has(harness: Harness) -> None:
    first = harness.store.limits.take("mails", SLOW, wanted=2)
    assert (first.count, first.wait_seconds) == (2, 0)
    second = harness.store.limits.take("mails", SLOW, wanted=2)
    assert second.count == 1
    assert second.wait_seconds == pytest.approx(10, abs=2)
    assert take(harness) == 0
    assert take(harness, 5, "others") == 3, "each name has its own"


def test_tokens_come_back_evenly_and_never_more_than_the_burst(harness: Harness) -> None:
    assert take(harness, 3) == 3
    harness.advance(8)
    assert take(harness, 3) == 0
    harness.advance(13)
    assert take(harness, 3) == 2
    harness.advance(1000)
    assert take(harness, 100) == 3


def test_who_only_asks_takes_nothing(harness: Harness) -> None:
    asked = harness.store.limits.take("mails", SLOW, wanted=0)
    assert (asked.count, asked.wait_seconds) == (0, 0)
    assert take(harness, 3) == 3
    assert harness.store.limits.take("mails", SLOW, wanted=0).wait_seconds == pytest.approx(10, abs=2)
    harness.advance(11)
    assert harness.store.limits.take("mails", SLOW, wanted=0).wait_seconds == 0
    assert take(harness, 3) == 1


def test_what_was_not_used_is_there_again_and_the_bucket_holds_no_more_by_it(harness: Harness) -> None:
    assert take(harness, 3) == 3
    harness.store.limits.give_back("mails", SLOW, count=2)
    assert take(harness, 3) == 2
    harness.store.limits.give_back("mails", SLOW, count=100)
    assert take(harness, 100) == 3
    harness.store.limits.give_back("unheard of", SLOW, count=1)
    assert take(harness, 100, "unheard of") == 3


def test_another_limit_under_the_same_name_holds_from_now_on(harness: Harness) -> None:
    assert take(harness, 3) == 3
    assert take(harness, 100, limit=RateLimit(count=6, period_seconds=60, burst=10)) == 7


@pytest.mark.capability("namespaces")
def test_tenants_have_buckets_of_their_own(harness: Harness) -> None:
    assert take(harness, 3) == 3
    assert harness.store.within("tenant").limits.take("mails", SLOW, wanted=9).count == 3


def test_threads_together_get_what_one_would(harness: Harness) -> None:
    fast = RateLimit(count=200, period_seconds=1, burst=20)
    began = time.monotonic()

    def take_for_a_second(number: int) -> int:
        taken = 0
        while time.monotonic() < began + 1:
            taken += take(harness, 1 + number, limit=fast)
        return taken

    taken = sum(in_threads(4, take_for_a_second))
    most = fast.burst + fast.count * (time.monotonic() - began)
    assert fast.burst < taken <= most


@pytest.mark.processes
def test_processes_together_get_what_one_would_even_where_a_clock_is_wrong(
    harness: Harness, actor: Callable[..., Actor]
) -> None:
    actors = [actor(clock_off_by_seconds=3600.0 if harness.has_server_clock else 0.0), actor(), actor()]
    began = time.monotonic()
    for one in actors:
        one.begin("take_tokens", seconds=1.0, count=100, burst=10)
    taken = [one.answer() for one in actors]
    assert all(taken), "no contention"
    assert sum(taken) <= 10 + 100 * (time.monotonic() - began)
