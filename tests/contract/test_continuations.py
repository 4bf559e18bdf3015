"""What the end of a message enqueues, by behaviour. Each store that has continuations passes all of it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pg_queue.domain import Death, MessageState, NewMessage, Retry, Settled, Settlement, Success
from tests.contract.actions import FAILURE, claim, new, settle
from tests.contract.harness import Harness

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.capability("continuations"),
]


def chain(**fields: Any) -> NewMessage:
    """A message that says which way it ended."""
    return new(on_success=[new("on_success")], on_failure=[new("on_failure")], **fields)


def waiting(harness: Harness) -> list[str]:
    return [one.message.task for one in claim(harness, 100)]


def test_success_enqueues_what_follows_it_and_nothing_else(harness: Harness) -> None:
    harness.store.enqueue([chain()])
    (one,) = claim(harness)
    assert settle(harness, one, Success(value=1)) is Settled.DONE
    assert waiting(harness) == ["on_success"]


def test_death_does_too(harness: Harness) -> None:
    harness.store.enqueue([chain()])
    (one,) = claim(harness)
    assert settle(harness, one, Death(failure=FAILURE)) is Settled.DEAD
    assert waiting(harness) == ["on_failure"]


def test_a_retry_enqueues_nothing_before_its_last_attempt(harness: Harness) -> None:
    harness.store.enqueue([chain(max_attempts=2)])
    (one,) = claim(harness)
    assert settle(harness, one, Retry(failure=FAILURE, delay=timedelta())) is Settled.RETRYING
    (one,) = claim(harness)
    assert one.message.task == "noop"
    assert settle(harness, one, Retry(failure=FAILURE, delay=timedelta())) is Settled.DEAD
    assert waiting(harness) == ["on_failure"]


def test_so_does_a_worker_that_vanishes_for_the_last_time(harness: Harness) -> None:
    harness.store.enqueue([chain(max_attempts=2)])
    for wanted in (["noop"], ["on_failure"]):
        claim(harness)
        harness.advance(61)
        assert harness.store.expire_claims(limit=9) == 1
        (depth,) = harness.store.depths()
        assert depth.waiting == 1
        if wanted == ["on_failure"]:
            assert waiting(harness) == wanted


@pytest.mark.capability("cancel")
@pytest.mark.parametrize("is_running", [False, True])
def test_so_does_a_cancellation(harness: Harness, is_running: bool) -> None:
    ids = harness.store.enqueue([chain()])
    if is_running:
        claim(harness)
    assert harness.store.cancel(ids) == set(ids)
    assert waiting(harness) == ["on_failure"]


def test_a_lost_claim_enqueues_nothing(harness: Harness) -> None:
    (message_id,) = harness.store.enqueue([chain()])
    (one,) = claim(harness)
    stranger = Settlement(message_id=message_id, token=uuid.uuid4(), outcome=Success())
    assert harness.store.settle([stranger]) == {stranger.token: Settled.LOST}
    assert waiting(harness) == []
    assert settle(harness, one, Success()) is Settled.DONE
    assert settle(harness, one, Success()) is Settled.LOST
    assert waiting(harness) == ["on_success"]


def test_a_continuation_keeps_everything_it_was_given(harness: Harness) -> None:
    message_id, due = uuid.uuid4(), datetime(2130, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    following = new(
        "echo",
        args=[1, None, "ü"],
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
    harness.store.enqueue([new(on_success=[following])])
    settle(harness, claim(harness)[0], Success())
    stored = harness.store.get([message_id])[message_id]
    assert (stored.task, stored.args, stored.kwargs, stored.headers) == (
        "echo",
        [1, None, "ü"],
        following.kwargs,
        {"h": "v"},
    )
    assert (stored.queue, stored.priority, stored.run_after, stored.max_attempts) == ("q", 9, due, 7)
    assert (stored.organization_id, stored.report_to, stored.state) == ("acme", "me", MessageState.WAITING)


def test_several_come_in_their_order_and_nested_ones_in_their_turn(harness: Harness) -> None:
    last = new("third", on_failure=[new("fourth")])
    harness.store.enqueue([new(on_success=[new("first"), new("second", on_success=[last]), new("beside")])])
    settle(harness, claim(harness)[0], Success())
    claims = claim(harness)
    assert [one.message.task for one in claims] == ["first", "second", "beside"]
    settle(harness, claims[1], Success())
    (third,) = claim(harness)
    assert third.message.task == "third"
    settle(harness, third, Death(failure=FAILURE))
    assert waiting(harness) == ["fourth"]


def test_in_a_batch_each_goes_by_its_own_outcome(harness: Harness) -> None:
    harness.store.enqueue([chain(), new(), chain(), new(), chain()])
    claims = claim(harness)
    outcomes: list[Any] = [Success(), Success(), Death(failure=FAILURE), Death(failure=FAILURE), Success()]
    answers = harness.store.settle(
        [
            Settlement(message_id=one.message.id, token=one.token, outcome=outcome)
            for one, outcome in zip(claims, outcomes, strict=True)
        ]
    )
    wanted = [Settled.DONE, Settled.DONE, Settled.DEAD, Settled.DEAD, Settled.DONE]
    assert [answers[one.token] for one in claims] == wanted
    assert sorted(waiting(harness)) == ["on_failure", "on_success", "on_success"]


def test_successes_alone_are_settled_whether_something_follows_or_not(harness: Harness) -> None:
    harness.store.enqueue([chain(), new(), chain(), new()])
    claims = claim(harness)
    batch = [Settlement(message_id=one.message.id, token=one.token, outcome=Success(value=7)) for one in claims]
    assert set(harness.store.settle(batch).values()) == {Settled.DONE}
    assert {m.result for m in harness.store.get(one.message.id for one in claims).values()} == {7}
    assert waiting(harness) == ["on_success", "on_success"]
    assert set(harness.store.settle(batch).values()) == {Settled.LOST}
    assert waiting(harness) == []


def test_a_continuation_whose_id_is_in_use_stops_nobody(harness: Harness) -> None:
    (taken,) = harness.store.enqueue([new("first", queue="other")])
    following = [new("before"), new("again", id=taken), new("after")]
    harness.store.enqueue([new(on_success=following), new()])
    batch = [Settlement(message_id=one.message.id, token=one.token, outcome=Success()) for one in claim(harness)]
    assert set(harness.store.settle(batch).values()) == {Settled.DONE}
    assert waiting(harness) == ["before", "after"]
    assert harness.store.get([taken])[taken].task == "first"


@pytest.mark.capability("keys")
def test_a_continuation_with_a_key_that_holds_is_not_stored_again(harness: Harness) -> None:
    (held,) = harness.store.enqueue([new("held", queue="other", key="k")])
    harness.store.enqueue([new(on_success=[new("again", key="k"), new("fresh", key="l")])])
    assert settle(harness, claim(harness)[0], Success()) is Settled.DONE
    assert waiting(harness) == ["fresh"]
    assert harness.store.enqueue([new(key="k")]) == [held]


def test_a_replayed_message_has_its_continuations_still(harness: Harness) -> None:
    (message_id,) = harness.store.enqueue([chain()])
    settle(harness, claim(harness)[0], Death(failure=FAILURE))
    assert waiting(harness) == ["on_failure"]
    harness.store.replay([message_id])
    (again,) = claim(harness)
    settle(harness, again, Success())
    assert waiting(harness) == ["on_success"]


@pytest.mark.capability("namespaces")
def test_they_are_enqueued_in_the_namespace_of_their_message(harness: Harness) -> None:
    tenant = harness.store.within("tenant")
    tenant.enqueue([chain(max_attempts=1)])
    assert len(tenant.claim(queues=["default"], limit=9, lease=timedelta(seconds=60), worker="w")) == 1
    harness.advance(61)
    assert harness.store.expire_claims(limit=9) == 1, "one reaper serves all namespaces"
    assert waiting(harness) == []
    (one,) = tenant.claim(queues=["default"], limit=9, lease=timedelta(seconds=60), worker="w")
    assert one.message.task == "on_failure"


@pytest.mark.capability("wake")
def test_the_workers_of_their_queues_are_woken(harness: Harness) -> None:
    listener = harness.store.listen(["other"])
    try:
        harness.store.enqueue([new(on_success=[new("next", queue="other")])])
        (one,) = claim(harness)
        assert listener.connect()
        settle(harness, one, Success())
        assert heard(listener)
    finally:
        listener.close()


def heard(listener: Any, within_seconds: float = 30) -> bool:
    """Whether the listener hears something in this time."""
    import select

    descriptor = listener.fileno()
    select.select([descriptor], [], [], within_seconds)
    found: bool = listener.hear()
    return found
