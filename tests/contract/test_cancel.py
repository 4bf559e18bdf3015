"""The guarantees of `pg_queue.ports.QueueStore.cancel`, by behaviour. Each store that has it passes all of it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from pg_queue.domain import Death, MessageState, Retry, Settled, Success
from tests.contract.actions import FAILURE, LEASE, claim, in_threads, new, pair, settle
from tests.contract.harness import Harness

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.capability("cancel"),
]


def test_a_waiting_message_ends_at_once_and_is_not_claimed(harness: Harness) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    ids = harness.store.enqueue([new(), new(run_after=later)])
    assert harness.store.cancel(ids) == set(ids)
    assert {m.state for m in harness.store.get(ids).values()} == {MessageState.CANCELLED}
    assert claim(harness) == []
    assert harness.store.next_due_seconds(["default"]) is None
    assert harness.store.depths() == []


def test_the_claim_of_a_running_one_is_lost(harness: Harness) -> None:
    (message_id,) = harness.store.enqueue([new()])
    (one,) = claim(harness)
    assert harness.store.cancel([message_id]) == {message_id}
    assert harness.store.renew([pair(one)], lease=LEASE) == set()
    assert harness.store.release([pair(one)]) == set()
    for outcome in (Success(value=1), Retry(failure=FAILURE, delay=timedelta()), Death(failure=FAILURE)):
        assert settle(harness, one, outcome) is Settled.LOST
    harness.advance(61)
    assert harness.store.expire_claims(limit=9) == 0
    message = harness.store.get([message_id])[message_id]
    assert (message.state, message.result, message.attempts, message.worker) == (MessageState.CANCELLED, None, 1, "w1")


def test_the_outcome_says_who_or_why_and_what_it_was(harness: Harness) -> None:
    (message_id,) = harness.store.enqueue([new(headers={"h": 1}, organization_id="acme", priority=7, report_to="me")])
    harness.store.cancel([message_id], reason="by ann: not needed")
    (message,) = harness.store.take_outcomes("me", limit=9)
    assert message.error is not None
    assert message.error.type == "message.cancelled"
    assert message.error.message.startswith("by ann: not needed")
    assert (message.id, message.state, message.finished_at is None) == (message_id, MessageState.CANCELLED, False)
    assert (message.headers, message.organization_id, message.priority) == ({"h": 1}, "acme", 7)


def test_one_that_is_being_retried_can_be_cancelled(harness: Harness) -> None:
    (message_id,) = harness.store.enqueue([new()])
    (one,) = claim(harness)
    settle(harness, one, Retry(failure=FAILURE, delay=timedelta(seconds=30)))
    assert harness.store.cancel([message_id]) == {message_id}
    harness.advance(31)
    assert claim(harness) == []


def test_terminal_states_are_final(harness: Harness) -> None:
    ids = harness.store.enqueue([new() for _ in range(3)])
    succeeded, failed, _ = claim(harness)
    settle(harness, succeeded, Success(value=1))
    settle(harness, failed, Death(failure=FAILURE))
    harness.store.cancel([ids[2]])
    assert harness.store.cancel([*ids, uuid.uuid4()]) == set()
    states = [MessageState.SUCCEEDED, MessageState.FAILED, MessageState.CANCELLED]
    assert [harness.store.get(ids)[i].state for i in ids] == states


def test_it_is_no_dead_letter(harness: Harness) -> None:
    (message_id,) = harness.store.enqueue([new()])
    harness.store.cancel([message_id])
    assert harness.store.replay([message_id]) == set()


def test_cancelling_nothing_is_nothing(harness: Harness) -> None:
    assert harness.store.cancel([]) == set()


@pytest.mark.capability("transactions")
def test_what_is_rolled_back_was_not_cancelled(harness: Harness) -> None:
    ids = harness.store.enqueue([new()])
    with transaction.atomic():
        harness.store.cancel(ids)
        transaction.set_rollback(True)
    assert len(claim(harness)) == 1


def test_of_a_settlement_and_a_cancellation_at_one_time_one_wins(harness: Harness) -> None:
    ids = harness.store.enqueue([new() for _ in range(60)])
    claims = claim(harness, 60)

    def work(number: int) -> set[uuid.UUID]:
        if number % 2:
            return {i for message_id in ids for i in harness.store.cancel([message_id])}
        done = set()
        for one in claims[number // 2 :: 2]:
            if settle(harness, one, Success()) is Settled.DONE:
                done.add(one.message.id)
        return done

    ended = in_threads(4, work)
    assert sum(map(len, ended)) == 60
    assert set().union(*ended) == set(ids)
    cancelled = ended[1] | ended[3]
    states = {i: message.state for i, message in harness.store.get(ids).items()}
    assert {i for i, state in states.items() if state is MessageState.CANCELLED} == cancelled


def test_two_who_cancel_the_same_in_another_order_do_not_stop_each_other(harness: Harness) -> None:
    for _ in range(5):
        ids = harness.store.enqueue([new() for _ in range(100)])
        ended = in_threads(4, lambda number, ids=ids: harness.store.cancel(ids if number % 2 else ids[::-1]))
        assert sorted(i for part in ended for i in part) == sorted(ids)
