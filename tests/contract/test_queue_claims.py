"""The guarantees of `pg_queue.ports.QueueStore` from enqueue to claim, by behaviour. Each store passes all of it."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from pg_queue.domain import Death, MessageState, Retry, Settled, Settlement, Success
from pg_queue.errors import InvalidMessage
from tests.contract.actions import FAILURE, LEASE, claim, in_threads, new, pair, settle
from tests.contract.harness import Harness

# Only the queue's tables are emptied: what the project's migrations wrote elsewhere stays.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


class TestEnqueue:
    def test_ids_come_back_in_the_order_of_the_messages(self, harness: Harness) -> None:
        given = [new(args=[number]) for number in range(50)]
        ids = harness.store.enqueue(given)
        stored = harness.store.get(ids)
        assert [stored[message_id].args for message_id in ids] == [[number] for number in range(50)]

    def test_a_message_keeps_everything_it_was_given(self, harness: Harness) -> None:
        message_id, due = uuid.uuid4(), datetime(2130, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
        message = new(
            "echo",
            args=[1, None, "ü", [True]],
            kwargs={"a": {"b": 1.5}},
            queue="q",
            priority=9,
            run_after=due,
            max_attempts=7,
            headers={"h": "v"},
            organization_id="acme",
            report_to="me",
            id=message_id,
        )
        assert harness.store.enqueue([message]) == [message_id]
        stored = harness.store.get([message_id])[message_id]
        assert (stored.args, stored.kwargs, stored.headers) == ([1, None, "ü", [True]], {"a": {"b": 1.5}}, {"h": "v"})
        assert (stored.queue, stored.priority, stored.run_after, stored.max_attempts) == ("q", 9, due, 7)
        assert (stored.organization_id, stored.report_to, stored.state) == ("acme", "me", MessageState.WAITING)
        assert stored.run_after.utcoffset() == timedelta()

    def test_ids_that_the_store_makes_are_time_ordered_uuids(self, harness: Harness) -> None:
        (message_id,) = harness.store.enqueue([new()])
        assert (message_id.version, message_id.variant) == (7, uuid.RFC_4122)
        made_at = datetime.fromtimestamp((message_id.int >> 80) / 1000, UTC)
        assert abs(made_at - datetime.now(UTC)) < timedelta(seconds=60)

    @pytest.mark.capability("transactions")
    def test_nothing_is_enqueued_when_the_callers_transaction_is_rolled_back(self, harness: Harness) -> None:
        with transaction.atomic():
            (message_id,) = harness.store.enqueue([new()])
            transaction.set_rollback(True)
        assert harness.store.get([message_id]) == {}
        assert claim(harness) == []

    def test_all_are_enqueued_or_none(self, harness: Harness) -> None:
        taken = harness.store.enqueue([new()])[0]
        many = [new() for _ in range(2500)]
        with pytest.raises((*harness.failures, InvalidMessage)):
            harness.store.enqueue([*many, new(id=taken)])
        assert [depth.waiting for depth in harness.store.depths()] == [1]


class TestClaim:
    def test_a_claim_counts_an_attempt_and_holds_the_message(self, harness: Harness) -> None:
        (message_id,) = harness.store.enqueue([new()])
        (one,) = claim(harness)
        assert (one.message.id, one.message.attempts, one.message.worker) == (message_id, 1, "w1")
        assert one.message.state is MessageState.RUNNING
        assert one.message.started_at is not None
        assert one.lease_until - one.message.started_at == LEASE
        assert claim(harness) == []

    def test_never_more_than_the_limit(self, harness: Harness) -> None:
        harness.store.enqueue([new(priority=1 + number % 10) for number in range(30)])
        assert [len(claim(harness, 7)) for _ in range(6)] == [7, 7, 7, 7, 2, 0]

    def test_queues_come_in_the_order_given_then_the_higher_priority_then_first_in(self, harness: Harness) -> None:
        for queue in ("a", "b"):
            for priority in (1, 10, 5):
                harness.store.enqueue([new(queue=queue, priority=priority, args=[number]) for number in range(2)])
        found = [(c.message.queue, c.message.priority, c.message.args[0]) for c in claim(harness, 20, "b", "a")]
        assert found == [(q, p, n) for q in "ba" for p in (10, 5, 1) for n in range(2)]
        assert claim(harness, 20, "b", "a", "c") == []

    def test_first_in_is_first_out_within_a_call_and_between_calls(self, harness: Harness) -> None:
        for start in range(0, 300, 100):
            harness.store.enqueue([new(args=[number]) for number in range(start, start + 100)])
        assert [c.message.args[0] for c in claim(harness, 300)] == list(range(300))

    def test_order_is_by_the_instant_of_becoming_due_not_of_enqueueing(self, harness: Harness) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=30)
        harness.store.enqueue([new(args=["later"], run_after=soon + timedelta(seconds=10))])
        harness.store.enqueue([new(args=["sooner"], run_after=soon)])
        harness.advance(60)
        assert [c.message.args[0] for c in claim(harness)] == ["sooner", "later"]

    def test_a_run_after_in_the_past_does_not_overtake(self, harness: Harness) -> None:
        harness.store.enqueue([new(args=["first"])])
        harness.store.enqueue([new(args=["pushy"], run_after=datetime(2000, 1, 1, tzinfo=UTC))])
        assert [c.message.args[0] for c in claim(harness)] == ["first", "pushy"]

    def test_a_delayed_message_is_not_claimed_before_its_instant(self, harness: Harness) -> None:
        harness.store.enqueue([new(run_after=datetime.now(UTC) + timedelta(seconds=100), priority=10)])
        assert claim(harness) == []
        assert harness.store.next_due_seconds(["default"]) == pytest.approx(100, abs=30)
        harness.advance(101)
        assert harness.store.next_due_seconds(["default"]) == 0
        assert len(claim(harness)) == 1
        assert harness.store.next_due_seconds(["default"]) is None

    def test_other_queues_are_left_alone(self, harness: Harness) -> None:
        harness.store.enqueue([new(queue="other")])
        assert claim(harness) == []

    def test_each_message_has_one_holder_among_threads(self, harness: Harness) -> None:
        ids = harness.store.enqueue([new(priority=1 + number % 10) for number in range(400)])

        def drain(number: int) -> list[uuid.UUID]:
            found: list[uuid.UUID] = []
            while claims := claim(harness, 7, worker=f"w{number}"):
                found += [one.message.id for one in claims]
            return found

        claimed = Counter(message_id for found in in_threads(6, drain) for message_id in found)
        assert claimed == Counter(ids)

    @pytest.mark.capability("transactions")
    def test_a_claim_locks_no_more_than_it_takes(self, harness: Harness) -> None:
        if harness.has_one_writer:
            pytest.skip("the store has one writer at a time")
        harness.store.enqueue([new() for _ in range(20)])
        with transaction.atomic():
            first = claim(harness, 5)
            (others,) = in_threads(1, lambda _: claim(harness, 100))
        assert len(first) == 5
        assert len(others) == 15


class TestLease:
    def test_renewing_extends_the_lease(self, harness: Harness) -> None:
        harness.store.enqueue([new()])
        (one,) = claim(harness)
        harness.advance(50)
        assert harness.store.renew([pair(one)], lease=LEASE) == {one.token}
        harness.advance(50)
        assert harness.store.expire_claims(limit=10) == 0

    def test_an_expired_claim_waits_again_where_it_stood(self, harness: Harness) -> None:
        harness.store.enqueue([new(args=[1])])
        harness.store.enqueue([new(args=[2])])
        (one,) = claim(harness, 1)
        harness.advance(61)
        assert harness.store.expire_claims(limit=10) == 1
        again = claim(harness)
        assert [c.message.args for c in again] == [[1], [2]]
        assert again[0].message.attempts == 2
        assert again[0].token != one.token
        assert again[0].message.error is not None
        assert again[0].message.error.type == "worker.vanished"

    def test_an_expired_last_attempt_becomes_a_dead_letter(self, harness: Harness) -> None:
        (message_id,) = harness.store.enqueue([new(max_attempts=1)])
        claim(harness)
        harness.advance(61)
        assert harness.store.expire_claims(limit=10) == 1
        message = harness.store.get([message_id])[message_id]
        assert message.state is MessageState.FAILED
        assert message.error is not None
        assert message.error.type == "worker.vanished"
        assert "w1" in message.error.message
        assert [depth.dead for depth in harness.store.depths()] == [1]

    def test_expiry_is_bounded_and_takes_the_oldest_first(self, harness: Harness) -> None:
        harness.store.enqueue([new() for _ in range(5)])
        claim(harness)
        harness.advance(61)
        assert [harness.store.expire_claims(limit=2) for _ in range(4)] == [2, 2, 1, 0]

    def test_concurrent_reapers_take_each_claim_back_once(self, harness: Harness) -> None:
        harness.store.enqueue([new() for _ in range(100)])
        claim(harness, 100)
        harness.advance(61)
        assert sum(in_threads(4, lambda _: sum(harness.store.expire_claims(limit=30) for _ in range(4)))) == 100
        assert {c.message.attempts for c in claim(harness, 100)} == {2}

    def test_a_stale_token_can_neither_renew_nor_settle_nor_release(self, harness: Harness) -> None:
        harness.store.enqueue([new()])
        (stale,) = claim(harness)
        harness.advance(61)
        harness.store.expire_claims(limit=10)
        (current,) = claim(harness, worker="w2")
        assert harness.store.renew([pair(stale)], lease=LEASE) == set()
        assert harness.store.release([pair(stale)]) == set()
        for outcome in (Success(value=1), Retry(failure=FAILURE, delay=timedelta()), Death(failure=FAILURE)):
            assert settle(harness, stale, outcome) is Settled.LOST
        assert harness.store.get([current.message.id])[current.message.id].worker == "w2"
        assert settle(harness, current, Success(value=2)) is Settled.DONE

    def test_of_two_claims_on_one_message_each_is_answered_for_itself(self, harness: Harness) -> None:
        """As a worker asks that was frozen past its lease and claimed the message again."""
        harness.store.enqueue([new()])
        (stale,) = claim(harness)
        harness.advance(61)
        harness.store.expire_claims(limit=10)
        (current,) = claim(harness)
        both = [pair(stale), pair(current)]
        assert harness.store.renew(both, lease=LEASE) == {current.token}
        settlements = [
            Settlement(message_id=one.message.id, token=one.token, outcome=Success(value=number))
            for number, one in enumerate((stale, current))
        ]
        assert harness.store.settle(settlements) == {stale.token: Settled.LOST, current.token: Settled.DONE}
        assert harness.store.get([stale.message.id])[stale.message.id].result == 1

    def test_a_lease_that_ran_out_still_holds_until_it_is_taken_back(self, harness: Harness) -> None:
        harness.store.enqueue([new()])
        (one,) = claim(harness)
        harness.advance(61)
        assert harness.store.renew([pair(one)], lease=LEASE) == {one.token}
        assert harness.store.expire_claims(limit=10) == 0

    def test_releasing_gives_the_place_and_the_attempt_back(self, harness: Harness) -> None:
        harness.store.enqueue([new(args=[number]) for number in range(2)])
        (one,) = claim(harness, 1)
        assert harness.store.release([pair(one)]) == {one.token}
        assert harness.store.release([pair(one)]) == set()
        assert [(c.message.args[0], c.message.attempts) for c in claim(harness)] == [(0, 1), (1, 1)]


def test_depths_are_exact(harness: Harness) -> None:
    harness.store.enqueue([new(queue="a") for _ in range(3)])
    harness.store.enqueue([new(queue="a", run_after=datetime.now(UTC) + timedelta(hours=1))])
    harness.store.enqueue([new(queue="b")])
    claim(harness, 1, "a")
    harness.advance(90)
    a, b = harness.store.depths()
    assert (a.queue, a.waiting, a.delayed, a.running, a.dead) == ("a", 2, 1, 1, 0)
    assert (b.queue, b.waiting, b.delayed, b.running, b.dead) == ("b", 1, 0, 0, 0)
    assert 90 <= a.oldest_due_seconds < 120


def test_how_long_leases_have_run_out_is_told_until_they_are_taken_back(harness: Harness) -> None:
    harness.store.enqueue([new(), new()])
    assert harness.store.overdue_seconds() == 0
    claim(harness, 1)
    harness.advance(40)
    claim(harness, 1)
    assert harness.store.overdue_seconds() == 0
    harness.advance(50)
    assert harness.store.overdue_seconds() == pytest.approx(30, abs=10)
    assert harness.store.expire_claims(limit=1) == 1
    assert harness.store.overdue_seconds() == 0
