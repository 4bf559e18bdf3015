"""An operator turns queues off and on: nothing new is claimed from one that is off, and nothing else changes."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections, transaction

from pg_queue.domain import Settled, Success
from tests.contract.actions import LEASE, claim, hears, in_threads, new, pair, settle
from tests.contract.harness import Harness

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.capability("switches"),
]


def turn(harness: Harness, queue: str | None, is_on: bool, reason: str = "") -> None:
    harness.store.switches.turn(queue, is_on=is_on, by="operator", reason=reason)


class TestClaims:
    def test_nothing_is_claimed_from_a_queue_that_is_off(self, harness: Harness) -> None:
        harness.store.enqueue([new(queue="a"), new(queue="b")])
        turn(harness, "a", False)
        assert harness.store.next_due_seconds(["a"]) is None
        assert harness.store.next_due_seconds(["a", "b"]) == 0
        assert [one.message.queue for one in claim(harness, 10, "a", "b")] == ["b"]
        turn(harness, "a", True)
        assert harness.store.next_due_seconds(["a"]) == 0
        assert [one.message.queue for one in claim(harness, 10, "a", "b")] == ["a"]

    def test_a_queue_is_on_only_when_its_own_switch_and_the_namespaces_are(self, harness: Harness) -> None:
        harness.store.enqueue([new(queue="a"), new(queue="b")])
        turn(harness, None, False)
        assert harness.store.next_due_seconds(["a", "b"]) is None
        assert claim(harness, 10, "a", "b") == []
        turn(harness, "a", True)
        assert claim(harness, 10, "a", "b") == []
        turn(harness, "b", False)
        turn(harness, None, True)
        assert [one.message.queue for one in claim(harness, 10, "a", "b")] == ["a"]

    def test_what_runs_runs_on_and_enqueueing_goes_on(self, harness: Harness) -> None:
        harness.store.enqueue([new(args=[1])])
        (running,) = claim(harness)
        turn(harness, "default", False)
        turn(harness, None, False)
        assert harness.store.renew([pair(running)], lease=LEASE) == {running.token}
        assert settle(harness, running, Success()) is Settled.DONE
        harness.store.enqueue([new(args=[2])])
        assert claim(harness) == []
        turn(harness, None, True)
        turn(harness, "default", True)
        assert [one.message.args for one in claim(harness)] == [[2]]

    def test_no_claim_that_begins_after_the_commit_finds_anything(self, harness: Harness) -> None:
        harness.store.enqueue([new() for _ in range(3000)])
        off_at: list[float] = []
        is_off, are_at_it = threading.Event(), threading.Event()

        def drain(number: int) -> list[float]:
            """The beginnings of the claims that gave something."""
            begun = []
            while not is_off.is_set():
                at = time.monotonic()
                if claim(harness, 1, worker=f"w{number}"):
                    begun.append(at)
                    are_at_it.set()
            begun.extend(time.monotonic() for _ in range(20) if claim(harness, 1, worker=f"w{number}"))
            return begun

        def turn_off() -> None:
            try:
                are_at_it.wait(60)
                time.sleep(0.1)
                turn(harness, "default", False)
                off_at.append(time.monotonic())
            finally:
                is_off.set()
                connections.close_all()

        operator = threading.Thread(target=turn_off)
        operator.start()
        try:
            begun = [at for found in in_threads(4, drain) for at in found]
        finally:
            are_at_it.set()
            operator.join(60)
        assert begun, "nobody was at it"
        assert [at for at in begun if at > off_at[0]] == []

    @pytest.mark.capability("namespaces")
    def test_another_namespace_goes_on(self, harness: Harness) -> None:
        tenant = harness.store.within("tenant")
        tenant.enqueue([new()])
        turn(harness, "default", False)
        turn(harness, None, False)
        assert tenant.switches.list() == []
        assert tenant.next_due_seconds(["default"]) == 0
        assert len(tenant.claim(queues=["default"], limit=1, lease=LEASE, worker="w")) == 1


class TestRecord:
    def test_every_switch_is_listed_the_namespaces_first(self, harness: Harness) -> None:
        assert list(harness.store.switches.list()) == []
        turn(harness, "b", False, "migration")
        turn(harness, "a", False)
        turn(harness, None, True)
        turned = harness.store.switches.turn("a", is_on=True, by="somebody else", reason="done")
        first, second, third = harness.store.switches.list()
        assert [first.queue, second.queue, third.queue] == [None, "a", "b"]
        assert [first.is_on, second.is_on, third.is_on] == [True, True, False]
        assert second == turned
        assert (turned.changed_by, turned.reason) == ("somebody else", "done")
        assert (third.changed_by, third.reason) == ("operator", "migration")
        assert abs(turned.changed_at - datetime.now(UTC)) < timedelta(minutes=1)

    def test_many_turn_one_switch_at_one_time(self, harness: Harness) -> None:
        in_threads(8, lambda number: turn(harness, "a", number % 2 == 0, str(number)))
        (found,) = harness.store.switches.list()
        assert found.is_on is (int(found.reason) % 2 == 0)

    @pytest.mark.capability("transactions")
    def test_a_turn_that_is_rolled_back_changes_nothing(self, harness: Harness) -> None:
        harness.store.enqueue([new()])
        with transaction.atomic():
            turn(harness, "default", False)
            transaction.set_rollback(True)
        assert list(harness.store.switches.list()) == []
        assert len(claim(harness)) == 1


@pytest.mark.capability("wake")
@pytest.mark.parametrize("queue", ["default", None])
def test_turning_a_queue_on_wakes_its_workers(harness: Harness, queue: str | None) -> None:
    turn(harness, queue, False)
    (message_id,) = harness.store.enqueue([new()])
    listener = harness.store.listen(["default"])
    listener.connect()
    try:
        turn(harness, queue, True)
        assert hears(listener)
    finally:
        listener.close()
    assert _ids(harness) == [message_id]


def _ids(harness: Harness) -> list[uuid.UUID]:
    return [one.message.id for one in claim(harness)]
