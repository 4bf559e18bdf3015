"""An operation happens whole or not at all, wherever its caller is cut off from the store."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from pg_queue.domain import (
    BarrierState,
    Claim,
    Death,
    MessageState,
    NewEvent,
    NewMessage,
    Retry,
    Settled,
    Settlement,
    Success,
)
from tests.contract.actions import FAILURE, claim, new
from tests.contract.harness import Harness

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


def interrupted(harness: Harness, point: str, operation: Callable[[], object]) -> bool:
    """Do it, and be cut off at this point; False: it does not get there, and is done."""
    with harness.cut_at(point), suppress(*harness.failures):
        operation()
        return False
    return True


def test_a_batch_that_is_cut_off_changes_nothing(harness: Harness) -> None:
    outcomes: list[Any] = [Success(), Retry(failure=FAILURE, delay=timedelta()), Death(failure=FAILURE)]
    cuts = 0
    for point in harness.cut_points:
        harness.clear()
        ids = harness.store.enqueue([new() for _ in range(3)])
        claims = claim(harness)
        batch = [
            Settlement(message_id=c.message.id, token=c.token, outcome=outcome)
            for c, outcome in zip(claims, outcomes, strict=True)
        ]
        if interrupted(harness, point, lambda batch=batch: harness.store.settle(batch)):
            cuts += 1
            assert {m.state for m in harness.store.get(ids).values()} == {MessageState.RUNNING}, point
            assert [d.running for d in harness.store.depths()] == [3], point
            answers = harness.store.settle(batch)
            assert [answers[c.token] for c in claims] == [Settled.DONE, Settled.RETRYING, Settled.DEAD], point
    assert cuts


@dataclass(frozen=True)
class Scene:
    """The last member of a barrier and a message with a key, both held, with all that may follow from an end."""

    harness: Harness
    claims: list[Claim]
    barrier_id: uuid.UUID
    callback_id: uuid.UUID
    on_abort_id: uuid.UUID
    continuation_ids: list[uuid.UUID]

    @classmethod
    def set(cls, harness: Harness) -> Scene:
        """Make it in an empty store."""
        harness.clear()
        on_success, on_failure, on_abort_id = [uuid.uuid4(), uuid.uuid4()], [uuid.uuid4(), uuid.uuid4()], uuid.uuid4()
        first, second = (
            {
                "on_success": [new("next", queue="after", id=on_success[number])],
                "on_failure": [new("next", queue="after", id=on_failure[number])],
            }
            for number in range(2)
        )
        members = [new(), new(**first)]
        barrier = harness.store.barriers.create(
            members, callback=new("callback", queue="after"), on_abort=new("abort", queue="after", id=on_abort_id)
        )
        harness.store.enqueue([new(key="k", key_ttl=timedelta(), **second)])
        done, *claims = claim(harness)
        harness.store.settle([Settlement(message_id=done.message.id, token=done.token, outcome=Success())])
        assert barrier.callback_id is not None
        return cls(harness, claims, barrier.id, barrier.callback_id, on_abort_id, [*on_success, *on_failure])

    def settle(self, outcome: Success | Death) -> dict[uuid.UUID, Settled]:
        """Settle both, each with an event."""
        events = [NewEvent(topic="t", payload=None)]
        return self.harness.store.settle(
            [Settlement(message_id=c.message.id, token=c.token, outcome=outcome, events=events) for c in self.claims]
        )

    def seen(self) -> tuple[Any, ...]:
        """All that an outsider sees of it."""
        store = self.harness.store
        states = {m.state for m in store.get(c.message.id for c in self.claims).values()}
        (barrier,) = store.barriers.get([self.barrier_id]).values()
        places = {
            one: number for number, one in enumerate([*self.continuation_ids, self.callback_id, self.on_abort_id])
        }
        followed = sorted(places[one] for one in store.get(places))
        events = sum(one.waiting for one in store.outbox.backlog())
        return states, barrier.state, barrier.remaining, followed, events


BEFORE = ({MessageState.RUNNING}, BarrierState.OPEN, 1, [], 0)
SUCCEEDED = ({MessageState.SUCCEEDED}, BarrierState.DONE, 0, [0, 1, 4], 2)
FAILED = ({MessageState.FAILED}, BarrierState.ABORTED, 1, [2, 3, 5], 2)


@pytest.mark.capability("events", "continuations", "barriers", "keys")
@pytest.mark.parametrize(("outcome", "after"), [(Success(value=1), SUCCEEDED), (Death(failure=FAILURE), FAILED)])
def test_an_end_and_all_that_follows_from_it_are_both_or_neither(
    harness: Harness, outcome: Success | Death, after: tuple[Any, ...]
) -> None:
    cuts = 0
    for point in harness.cut_points:
        scene = Scene.set(harness)
        assert scene.seen() == BEFORE
        if not interrupted(harness, point, lambda scene=scene: scene.settle(outcome)):
            assert scene.seen() == after, point
            continue
        cuts += 1
        assert scene.seen() == BEFORE, point
        harness.advance(61)
        assert harness.store.expire_claims(limit=9) == 2, point
        scene.claims[:] = claim(harness)
        assert set(scene.settle(outcome).values()) <= {Settled.DONE, Settled.DEAD}
        assert scene.seen() == after, point
        assert set(scene.settle(outcome).values()) == {Settled.LOST}, point
        assert scene.seen() == after, point
        assert harness.store.enqueue([new(key="k")]) != [scene.claims[1].message.id], "the key has lapsed"
    assert cuts >= min(12, len(harness.cut_points)), "each write of a settlement is a point"


@pytest.mark.capability("cancel", "continuations", "barriers", "keys")
@pytest.mark.parametrize("how", ["cancel", "expire"])
def test_so_it_is_where_a_message_is_cancelled_or_its_worker_has_vanished(harness: Harness, how: str) -> None:
    state = MessageState.CANCELLED if how == "cancel" else MessageState.FAILED
    after = ({state}, BarrierState.ABORTED, 1, [2, 3, 5], 0)
    cuts = 0
    for point in harness.cut_points:
        scene = Scene.set(harness)
        ids = [one.message.id for one in scene.claims]
        if how == "expire":
            for _ in range(2):  # the last of three attempts
                harness.advance(61)
                harness.store.expire_claims(limit=9)
                claim(harness)
            harness.advance(61)

        def end(ids: list[uuid.UUID] = ids) -> object:
            return harness.store.cancel(ids) if how == "cancel" else harness.store.expire_claims(limit=9)

        if interrupted(harness, point, end):
            cuts += 1
            assert scene.seen() == BEFORE, point
            end()
        assert scene.seen() == after, point
    assert cuts


@pytest.mark.capability("continuations", "barriers", "keys")
@pytest.mark.parametrize("has_members", [False, True])
def test_a_barrier_is_made_with_all_its_members_or_not_at_all(harness: Harness, has_members: bool) -> None:
    cuts = 0
    for point in harness.cut_points:
        harness.clear()
        barrier_id, member_ids = uuid.uuid4(), [uuid.uuid4(), uuid.uuid4()] if has_members else []

        def create(barrier_id: uuid.UUID = barrier_id, member_ids: list[uuid.UUID] = member_ids) -> object:
            members = [new(id=one, on_success=[new("next")]) for one in member_ids]
            return harness.store.barriers.create(members, callback=new("callback"), id=barrier_id)

        if interrupted(harness, point, create):
            cuts += 1
            assert harness.store.barriers.get([barrier_id]) == {}, point
            assert harness.store.get(member_ids) == {}, point
            assert claim(harness) == [], point
            create()
        assert [one.message.id for one in claim(harness)][: len(member_ids)] == member_ids, point
        assert set(harness.store.barriers.get([barrier_id])) == {barrier_id}, point
    assert cuts


@pytest.mark.capability("keys", "continuations")
def test_messages_are_enqueued_all_or_none(harness: Harness) -> None:
    cuts = 0
    for point in harness.cut_points:
        harness.clear()
        messages: list[NewMessage] = [new(key="a"), new(on_success=[new()]), new(key="b"), new()]

        def enqueue(messages: list[NewMessage] = messages) -> object:
            return harness.store.enqueue(messages)

        if interrupted(harness, point, enqueue):
            cuts += 1
            assert claim(harness) == [], point
            enqueue()
        assert [one.message.key for one in claim(harness)] == ["a", None, "b", None], point
    assert cuts
