"""Fairness between organizations, caps and aging: `QueueStore.claim` on a store with `Capability.FAIRNESS`."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from pg_queue.domain import Claim, MessageState, Settlement, Success
from tests.contract.actions import LEASE, claim, in_threads, new, pair
from tests.contract.harness import Harness
from tests.pg_queue.worker.conftest import until
from tests.processes import RunningProcess, clean_up

pytestmark = [pytest.mark.capability("fairness"), pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])]

FLOOD = 100_000
CHUNK = 5_000
"""Most in one call: a store whose server does one thing at a time is not to be kept from answering."""
PROMPT = timedelta(milliseconds=100)
TRIES = 30
"""Machines stumble; a store without turns keeps the newcomer waiting for the whole flood, every time."""


@pytest.fixture
def fairness(settings: Any, harness: Harness) -> Callable[..., None]:
    """Sets `PG_QUEUE["FAIRNESS"]`, and with it how long a message is due before it counts as old."""

    def give(*, aging_seconds: float = 50.0, **rules: Any) -> None:
        settings.PG_QUEUE = {**settings.PG_QUEUE, "AGING_SECONDS": aging_seconds, "FAIRNESS": rules}

    return give


def fill(harness: Harness, count: int, organization: str, **fields: Any) -> list[uuid.UUID]:
    """Enqueue so many messages of one organization, numbered in `args`."""
    many = [new(args=[n], organization_id=organization, **fields) for n in range(count)]
    return [i for at in range(0, count, CHUNK) for i in harness.store.enqueue(many[at : at + CHUNK])]


def shares(claims: list[Claim]) -> Counter[str]:
    return Counter(one.message.organization_id for one in claims)


def settle_all(harness: Harness, claims: list[Claim]) -> None:
    done = [Settlement(message_id=one.message.id, token=one.token, outcome=Success()) for one in claims]
    harness.store.settle(done)


class TestTurns:
    def test_shares_are_by_weight_claim_after_claim(self, harness: Harness, fairness: Callable[..., None]) -> None:
        fairness(WEIGHTS={"acme": 3})
        fill(harness, 400, "acme")
        fill(harness, 400, "zeta")
        got = shares([one for _ in range(200) for one in claim(harness, 1)])
        assert got.total() == 200
        assert 115 <= got["acme"] <= 185

    def test_shares_are_by_weight_within_one_claim(self, harness: Harness, fairness: Callable[..., None]) -> None:
        fairness(WEIGHTS={"acme": 3}, DEFAULT_WEIGHT=0.5)
        fill(harness, 400, "acme")
        fill(harness, 400, "zeta")
        got = shares([one for _ in range(10) for one in claim(harness, 35)])
        assert got.total() == 350
        assert 270 <= got["acme"] <= 330

    def test_three_organizations_share_a_large_claim(self, harness: Harness) -> None:
        for organization in ("acme", "beta", ""):
            fill(harness, 500, organization)
        got = shares(claim(harness, 300))
        assert got.total() == 300
        assert set(got) == {"acme", "beta", ""}
        assert min(got.values()) >= 60

    def test_what_one_does_not_use_goes_to_the_others(self, harness: Harness, fairness: Callable[..., None]) -> None:
        fairness(WEIGHTS={"idle": 1000})
        fill(harness, 2, "idle")
        fill(harness, 500, "acme")
        fill(harness, 500, "zeta")
        got = shares(claim(harness, 300))
        assert got.total() == 300
        assert got["idle"] == 2
        assert min(got["acme"], got["zeta"]) >= 60

    def test_first_in_is_first_out_within_each_organization(self, harness: Harness) -> None:
        for organization in ("acme", "beta", "zeta"):
            fill(harness, 60, organization)
        found: dict[str, list[int]] = {"acme": [], "beta": [], "zeta": []}
        limits = [1, 7, 1, 30, 2]
        while claims := claim(harness, limits[sum(map(len, found.values())) % len(limits)]):
            for one in claims:
                found[one.message.organization_id].append(one.message.args[0])
        assert found == {organization: list(range(60)) for organization in found}

    def test_the_higher_priority_goes_first_within_and_among_organizations(self, harness: Harness) -> None:
        fill(harness, 50, "acme", priority=2)
        fill(harness, 5, "acme", priority=9)
        fill(harness, 5, "zeta", priority=7)
        got = [(one.message.priority, one.message.organization_id) for one in claim(harness, 12)]
        assert got == [(9, "acme")] * 5 + [(7, "zeta")] * 5 + [(2, "acme")] * 2

    def test_two_hundred_organizations_each_have_a_turn_before_one_has_a_second_hundred(self, harness: Harness) -> None:
        fill(harness, 1000, "acme")
        harness.store.enqueue([new(organization_id=f"small-{number}") for number in range(200)])
        got = shares([one for _ in range(300) for one in claim(harness, 1)])
        assert got.total() == 300
        assert len(got) == 201

    def test_organizations_with_delayed_messages_only_do_not_stand_in_the_way(self, harness: Harness) -> None:
        later = max(one.enqueued_at for one in harness.store.get(fill(harness, 1, "zeta")).values()) + timedelta(days=1)
        harness.store.enqueue([new(organization_id=f"later-{n}", run_after=later) for n in range(1500)])
        assert shares(claim(harness, 10)) == Counter(["zeta"])
        assert claim(harness, 10) == []

    def test_each_message_has_one_holder_among_threads(self, harness: Harness) -> None:
        ids = [i for organization in ("acme", "beta", "zeta") for i in fill(harness, 150, organization)]

        def drain(number: int) -> list[uuid.UUID]:
            found: list[uuid.UUID] = []
            while claims := claim(harness, 7, worker=f"w{number}"):
                found += [one.message.id for one in claims]
            return found

        claimed = [message_id for found in in_threads(6, drain) for message_id in found]
        claimed += drain(7)  # what a thread had locked just when another saw nothing else
        assert Counter(claimed) == Counter(ids)


class TestCaps:
    def test_no_organization_runs_more_than_its_cap(self, harness: Harness, fairness: Callable[..., None]) -> None:
        fairness(MAX_RUNNING={"acme": 3})
        fill(harness, 20, "acme")
        fill(harness, 20, "zeta")
        held = claim(harness, 30)
        assert shares(held) == Counter(acme=3, zeta=20)
        assert claim(harness, 30) == []
        settle_all(harness, [one for one in held if one.message.organization_id == "acme"][:2])
        assert shares(claim(harness, 30)) == Counter(acme=2)

    def test_a_cap_for_all_counts_each_by_itself_whatever_the_priority(
        self, harness: Harness, fairness: Callable[..., None]
    ) -> None:
        fairness(MAX_RUNNING=4)
        for priority in (9, 5, 1):
            for organization in ("acme", "zeta"):
                fill(harness, 3, organization, priority=priority)
        got = claim(harness, 50)
        assert shares(got) == Counter(acme=4, zeta=4)
        assert Counter(one.message.priority for one in got) == {9: 6, 5: 2}

    def test_the_cap_holds_at_every_instant_among_eight_threads(
        self, harness: Harness, fairness: Callable[..., None]
    ) -> None:
        fairness(MAX_RUNNING={"acme": 5})
        fill(harness, 160, "acme")
        fill(harness, 80, "zeta")
        lock, running, most, finished = threading.Lock(), 0, 0, Counter[str]()

        def work(number: int) -> None:
            nonlocal running, most
            give_up_at = time.monotonic() + 120
            while finished.total() < 240 and time.monotonic() < give_up_at:
                held = claim(harness, 3, worker=f"w{number}")
                mine = shares(held)
                with lock:
                    running += mine["acme"]
                    most = max(most, running)
                harness.store.renew([pair(one) for one in held], lease=LEASE)
                with lock:  # counted as ended before they are, so never too many
                    running -= mine["acme"]
                    finished.update(mine)
                settle_all(harness, held)

        in_threads(8, work)
        assert finished == Counter(acme=160, zeta=80)
        assert most <= 5

    def test_the_cap_is_not_overshot_by_claims_that_begin_together(
        self, harness: Harness, fairness: Callable[..., None]
    ) -> None:
        fairness(MAX_RUNNING={"acme": 5})
        fill(harness, 100, "acme")
        got = in_threads(8, lambda number: [one for _ in range(5) for one in claim(harness, 2, worker=f"w{number}")])
        assert sum(map(len, got)) == 5


class TestAging:
    def flood_above_an_old_message(self, harness: Harness, seconds: float) -> None:
        fill(harness, 1, "acme", priority=1)
        harness.advance(seconds)
        fill(harness, 40, "acme", priority=9)

    def test_what_has_been_due_for_long_goes_first_in_every_sixteenth_claim(
        self, harness: Harness, fairness: Callable[..., None]
    ) -> None:
        fairness(aging_seconds=50)
        self.flood_above_an_old_message(harness, 60)
        assert [one.message.priority for _ in range(16) for one in claim(harness, 1)].count(1) == 1

    def test_what_has_not_been_due_for_so_long_waits(self, harness: Harness, fairness: Callable[..., None]) -> None:
        fairness(aging_seconds=50)
        self.flood_above_an_old_message(harness, 40)
        assert [one.message.priority for _ in range(32) for one in claim(harness, 1)] == [9] * 32

    def test_the_oldest_go_first_and_the_rest_is_filled_up_as_usual(
        self, harness: Harness, fairness: Callable[..., None]
    ) -> None:
        fairness(aging_seconds=50)
        for seconds, priority in ((20, 2), (20, 4), (60, 6), (0, 1)):
            fill(harness, 1, "acme", priority=priority)
            harness.advance(seconds)
        fill(harness, 64, "acme", priority=9)
        batches = [[one.message.priority for one in claim(harness, 2)] for _ in range(32)]
        assert [batch for batch in batches if batch != [9, 9]] == [[2, 4], [6, 9]]

    def test_a_cap_holds_for_what_is_old_too(self, harness: Harness, fairness: Callable[..., None]) -> None:
        fairness(aging_seconds=50, MAX_RUNNING=2)
        fill(harness, 10, "acme", priority=1)
        harness.advance(60)
        assert sum(len(claim(harness, 5)) for _ in range(32)) == 2


class TestFlood:
    @contextmanager
    def consumer(self, harness: Harness) -> Iterator[None]:
        """Claims and settles ten at a time, one claim after the other."""
        stop = threading.Event()

        def loop() -> None:
            try:
                while not stop.is_set():
                    settle_all(harness, claim(harness, 10, worker="consumer"))
            finally:
                connections.close_all()

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def is_started_promptly(self, harness: Harness) -> bool:
        """Whether a newcomer's message, enqueued now, is claimed in time, by the store's clock."""
        (message_id,) = fill(harness, 1, "newcomer")

        def started() -> bool:
            return harness.store.get([message_id])[message_id].state is not MessageState.WAITING

        until(started, timeout=60)
        message = harness.store.get([message_id])[message_id]
        assert message.started_at is not None
        assert any(depth.waiting for depth in harness.store.depths()), "the flood is over: this shows nothing"
        return message.started_at - message.enqueued_at <= PROMPT

    @pytest.mark.timeout(300)
    def test_a_newcomer_is_started_at_once_beside_a_hundred_thousand(self, harness: Harness) -> None:
        fill(harness, FLOOD, "acme")
        with self.consumer(harness):
            assert any(self.is_started_promptly(harness) for _ in range(TRIES))

    @pytest.mark.processes
    @pytest.mark.timeout(300)
    def test_a_worker_process_starts_a_newcomer_at_once_beside_a_hundred_thousand(self, harness: Harness) -> None:
        fill(harness, FLOOD, "acme")
        worker = RunningProcess([sys.executable, "manage.py", "run_worker"], env=harness.environment())
        try:
            worker.wait_for_line("started ")
            assert any(self.is_started_promptly(harness) for _ in range(TRIES))
        finally:
            clean_up([worker])
