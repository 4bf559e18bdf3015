"""What a worker claims of queues whose messages may begin only so often."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.test import override_settings

from pg_queue.api import EmbeddedWorker, task
from pg_queue.domain import Claim, NewMessage
from pg_queue.errors import CapabilityMissing, Configuration
from pg_queue.rates import parse_rate
from pg_queue.settings import StoreSettings, parse
from pg_queue.storage import store
from pg_queue.storage.capable import Capable
from pg_queue.worker.options import WorkerOptions
from pg_queue.worker.rates import Claims
from tests.pg_queue.worker.conftest import until

RATES = {"mails": "6/m burst 3"}
LEASE = timedelta(seconds=60)


class Recording:
    """The store, and what it was asked."""

    def __init__(self, fails_for: str = "") -> None:
        self.calls: list[str] = []
        self._fails_for = fails_for

    def __getattr__(self, name: str) -> Any:
        found = getattr(store(), name)
        if name not in {"claim", "next_due_seconds"}:
            return found

        def call(*args: Any, **named: Any) -> Any:
            self.calls.append(name)
            if name == "claim" and self._fails_for in named["queues"]:
                raise OperationalError("gone")
            return found(*args, **named)

        return call


def claims_of(asked: Any, *queues: str) -> Claims:
    return Claims(asked, parse({"RATE_LIMITS": RATES}).limits, queues)


def take(claims: Claims, *queues: str, limit: int = 10) -> list[Claim]:
    return claims.claim(queues, limit=limit, lease=LEASE, worker="w")


def add(queue: str, count: int) -> None:
    store().enqueue([NewMessage(task="noop", queue=queue) for _ in range(count)])


@pytest.mark.django_db
class TestClaims:
    def test_of_a_limited_queue_no_more_begin_than_its_rate_gives_and_the_others_are_not_kept_back(self) -> None:
        add("mails", 5)
        add("other", 5)
        claims = claims_of(store(), "mails", "other")
        assert [one.message.queue for one in take(claims, "mails", "other", limit=7)] == ["mails"] * 3 + ["other"] * 4
        assert [one.message.queue for one in take(claims, "mails", "other")] == ["other"]
        assert 0 < (claims.next_due_seconds(["mails", "other"]) or 0) <= 10
        second = claims_of(store(), "mails")
        assert take(second, "mails") == [], "another worker shares the limit"

    def test_while_the_bucket_is_empty_the_store_is_not_asked_for_more(self) -> None:
        add("mails", 5)
        asked = Recording()
        claims = claims_of(asked, "mails")
        assert len(take(claims, "mails")) == 3
        asked.calls.clear()
        assert [take(claims, "mails") for _ in range(5)] == [[]] * 5
        assert asked.calls == []

    def test_an_empty_queue_uses_up_nothing_and_what_is_not_used_goes_back(self) -> None:
        claims = claims_of(store(), "mails")
        assert [take(claims, "mails") for _ in range(5)] == [[]] * 5
        for _ in range(3):
            add("mails", 1)
            assert len(take(claims, "mails")) == 1, "three are there at once, one after the other too"
        add("mails", 1)
        assert take(claims, "mails") == []

    def test_what_was_claimed_before_the_store_failed_is_not_lost(self) -> None:
        add("mails", 1)
        add("other", 1)
        claims = claims_of(Recording(fails_for="other"), "mails", "other")
        assert [one.message.queue for one in take(claims, "mails", "other")] == ["mails"]
        with pytest.raises(OperationalError):
            take(claims, "mails", "other")

    def test_a_store_without_limits_is_refused_where_one_is_needed(self) -> None:
        bare = Capable(StoreSettings(alias="bare"))
        claims_of(bare, "other")
        with pytest.raises(CapabilityMissing, match="'limits'"):
            claims_of(bare, "mails")


@pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
def test_a_worker_begins_no_more_than_the_rate_however_much_waits() -> None:
    began: list[float] = []

    @task("test.rates.begin", result="none")
    def begin() -> None:
        began.append(time.monotonic())

    with override_settings(PG_QUEUE={"RATE_LIMITS": {"mails": "10/s burst 2"}}):
        ids = store().enqueue([NewMessage(task="test.rates.begin", queue="mails") for _ in range(8)])
        worker = EmbeddedWorker(WorkerOptions(queues=("mails",), concurrency=4, drain_seconds=10))
        worker.start()
        until(lambda: not store().get(ids), what="the ends of all of them")
        assert worker.stop()
    assert began[-1] - began[0] >= 0.55, "after the first two, one in a tenth of a second"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("100/m", (100, 60.0, 1)),
        ("50/s", (50, 1.0, 50)),
        ("1/10s", (1, 10.0, 1)),
        ("1000/h burst 20", (1000, 3600.0, 20)),
        ("5/2d", (5, 172800.0, 1)),
    ],
)
def test_a_rate_says_how_many_in_which_time_and_at_once(text: str, wanted: tuple[int, float, int]) -> None:
    limit = parse_rate(text)
    assert limit is not None
    assert (limit.count, limit.period_seconds, limit.burst) == wanted


@pytest.mark.parametrize(
    "rate", ["", "100", "0/m", "-1/s", "1/w", "1.5/s", "10/m burst 0", "10/m burst", "99999999/s", 5]
)
def test_what_is_no_rate_is_refused_by_the_name_of_its_queue(rate: object) -> None:
    with pytest.raises(Configuration, match=r"RATE_LIMITS'\]\['mails'\]: expected a rate such as '100/m'"):
        parse({"RATE_LIMITS": {"mails": rate}})


def test_a_name_that_no_queue_has_is_refused() -> None:
    with pytest.raises(Configuration, match="expected names of queues as keys, got: 'a b'"):
        parse({"RATE_LIMITS": {"a b": "1/s"}})
