"""The guarantees of `pg_queue.ports.Barriers`, by behaviour. Each store that has them passes all of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from pg_queue.domain import (
    Barrier,
    BarrierState,
    Claim,
    Death,
    MessageState,
    NewMessage,
    Retry,
    Settled,
    Settlement,
    Success,
)
from pg_queue.errors import InvalidMessage
from tests.contract.actions import FAILURE, claim, in_threads, new, settle
from tests.contract.actors import Actor
from tests.contract.harness import Harness

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.capability("barriers"),
]
CALLBACK, ON_ABORT = new("callback", queue="after"), new("on_abort", queue="after")


def fan_out(harness: Harness, count: int, callback: NewMessage | None = CALLBACK, **fields: Any) -> Barrier:
    return harness.store.barriers.create(
        [new(args=[number], **fields) for number in range(count)], callback=callback, on_abort=ON_ABORT
    )


def state(harness: Harness, barrier: Barrier) -> Barrier:
    return harness.store.barriers.get([barrier.id])[barrier.id]


def after(harness: Harness) -> list[tuple[uuid.UUID, str]]:
    """What was called back, by id and task."""
    return [(one.message.id, one.message.task) for one in claim(harness, 100, "after")]


def settle_all(harness: Harness, claims: Sequence[Claim], outcome: Success | Death | None = None) -> list[Settled]:
    batch = [Settlement(message_id=c.message.id, token=c.token, outcome=outcome or Success()) for c in claims]
    answers = harness.store.settle(batch)
    return [answers[one.token] for one in claims]


class TestCreate:
    def test_members_wait_and_say_which_barrier_waits_for_them(self, harness: Harness) -> None:
        barrier = fan_out(harness, 3)
        assert (barrier.state, barrier.remaining, barrier.culprit_id, barrier.ended_at) == (
            BarrierState.OPEN,
            3,
            None,
            None,
        )
        claims = claim(harness)
        assert [one.message.id for one in claims] == barrier.member_ids
        assert [one.message.args for one in claims] == [[0], [1], [2]]
        assert {one.message.barrier_id for one in claims} == {barrier.id}
        assert state(harness, barrier) == barrier
        assert after(harness) == []

    def test_its_id_and_the_callbacks_can_be_given(self, harness: Harness) -> None:
        barrier_id, callback_id, member_id = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
        barrier = harness.store.barriers.create(
            [new(id=member_id)], callback=new("callback", queue="after", id=callback_id), id=barrier_id
        )
        assert (barrier.id, barrier.callback_id, barrier.member_ids) == (barrier_id, callback_id, [member_id])
        settle_all(harness, claim(harness))
        assert after(harness) == [(callback_id, "callback")]

    def test_without_members_the_callback_is_enqueued_at_once(self, harness: Harness) -> None:
        barrier = fan_out(harness, 0)
        assert (barrier.state, barrier.remaining, barrier.member_ids) == (BarrierState.DONE, 0, [])
        assert barrier.ended_at is not None
        assert after(harness) == [(barrier.callback_id, "callback")]

    def test_a_callback_may_be_left_out(self, harness: Harness) -> None:
        barrier = harness.store.barriers.create([new()])
        assert barrier.callback_id is None
        settle_all(harness, claim(harness))
        assert state(harness, barrier).state is BarrierState.DONE
        assert harness.store.depths() == []

    def test_a_member_with_a_key_is_refused_and_nothing_is_stored(self, harness: Harness) -> None:
        with pytest.raises(InvalidMessage) as caught:
            harness.store.barriers.create([new(), new(key="k")], callback=CALLBACK)
        assert caught.value.field == "key"
        assert claim(harness) == []

    @pytest.mark.capability("transactions")
    def test_nothing_is_there_when_the_callers_transaction_is_rolled_back(self, harness: Harness) -> None:
        with transaction.atomic():
            barrier = fan_out(harness, 2)
            transaction.set_rollback(True)
        assert harness.store.barriers.get([barrier.id]) == {}
        assert claim(harness) == []

    def test_unknown_ones_are_left_out(self, harness: Harness) -> None:
        assert harness.store.barriers.get([uuid.uuid4()]) == {}
        assert harness.store.barriers.get([]) == {}

    @pytest.mark.capability("namespaces")
    def test_another_namespace_neither_sees_nor_gets_it(self, harness: Harness) -> None:
        tenant = harness.store.within("tenant")
        barrier = tenant.barriers.create([new(max_attempts=1)], callback=CALLBACK, on_abort=ON_ABORT)
        assert harness.store.barriers.get([barrier.id]) == {}
        assert claim(harness) == []
        tenant.claim(queues=["default"], limit=9, lease=timedelta(seconds=60), worker="w")
        harness.advance(61)
        assert harness.store.expire_claims(limit=9) == 1
        assert after(harness) == []
        (called,) = tenant.claim(queues=["after"], limit=9, lease=timedelta(seconds=60), worker="w")
        assert called.message.task == "on_abort"


class TestDone:
    def test_the_last_success_calls_back_under_the_id_known_from_the_start(self, harness: Harness) -> None:
        barrier = fan_out(harness, 3)
        for left, one in zip([2, 1, 0], claim(harness), strict=True):
            assert after(harness) == []
            assert settle(harness, one, Success()) is Settled.DONE
            assert state(harness, barrier).remaining == left
        found = state(harness, barrier)
        assert (found.state, found.culprit_id) == (BarrierState.DONE, None)
        assert found.ended_at is not None
        assert after(harness) == [(barrier.callback_id, "callback")]

    def test_a_batch_counts_each_of_its_members(self, harness: Harness) -> None:
        one, other = fan_out(harness, 5), fan_out(harness, 4)
        claims = claim(harness, 9)
        assert settle_all(harness, claims[:7]) == [Settled.DONE] * 7
        assert (state(harness, one).remaining, state(harness, other).remaining) == (0, 2)
        assert after(harness) == [(one.callback_id, "callback")]
        settle_all(harness, claims[7:])
        assert after(harness) == [(other.callback_id, "callback")]

    def test_retries_and_lost_claims_do_not_count(self, harness: Harness) -> None:
        barrier = fan_out(harness, 2)
        first, second = claim(harness)
        settle(harness, first, Retry(failure=FAILURE, delay=timedelta()))
        assert settle(harness, first, Success()) is Settled.LOST
        assert settle(harness, second, Success()) is Settled.DONE
        assert settle(harness, second, Success()) is Settled.LOST
        assert state(harness, barrier).remaining == 1
        settle_all(harness, claim(harness))
        assert after(harness) == [(barrier.callback_id, "callback")]

    def test_a_callback_may_have_what_any_message_has(self, harness: Harness) -> None:
        following = new("last", queue="after")
        callback = new("callback", queue="after", args=[1, None], headers={"h": 1}, priority=9, on_success=[following])
        fan_out(harness, 1, callback=callback)
        settle_all(harness, claim(harness))
        (called,) = claim(harness, 9, "after")
        assert (called.message.args, called.message.headers, called.message.priority) == ([1, None], {"h": 1}, 9)
        settle(harness, called, Success())
        assert [task for _, task in after(harness)] == ["last"]

    def test_members_may_have_continuations(self, harness: Harness) -> None:
        barrier = fan_out(harness, 2, on_success=[new("beside", queue="beside")])
        settle_all(harness, claim(harness))
        assert [one.message.task for one in claim(harness, 9, "beside")] == ["beside", "beside"]
        assert after(harness) == [(barrier.callback_id, "callback")]


class TestAbort:
    def check(self, harness: Harness, barrier: Barrier, culprit_id: uuid.UUID) -> None:
        """It is aborted by this member, once, and stays so."""
        found = state(harness, barrier)
        assert (found.state, found.culprit_id) == (BarrierState.ABORTED, culprit_id)
        assert found.ended_at is not None
        assert [task for _, task in after(harness)] == ["on_abort"]

    def test_by_a_death(self, harness: Harness) -> None:
        barrier = fan_out(harness, 3)
        first, second, third = claim(harness)
        settle(harness, first, Success())
        settle(harness, second, Death(failure=FAILURE))
        self.check(harness, barrier, second.message.id)
        assert settle(harness, third, Success()) is Settled.DONE
        assert state(harness, barrier).state is BarrierState.ABORTED
        assert after(harness) == []

    @pytest.mark.capability("cancel")
    @pytest.mark.parametrize("is_running", [False, True])
    def test_by_a_cancellation(self, harness: Harness, is_running: bool) -> None:
        barrier = fan_out(harness, 2)
        if is_running:
            claim(harness)
        harness.store.cancel(barrier.member_ids[1:])
        self.check(harness, barrier, barrier.member_ids[1])

    @pytest.mark.capability("cancel")
    def test_by_the_cancellation_of_all_once(self, harness: Harness) -> None:
        barrier = fan_out(harness, 5)
        assert harness.store.cancel(barrier.member_ids) == set(barrier.member_ids)
        found = state(harness, barrier)
        assert found.state is BarrierState.ABORTED
        assert found.culprit_id in barrier.member_ids
        assert [task for _, task in after(harness)] == ["on_abort"]

    def test_by_a_worker_that_vanishes_for_the_last_time(self, harness: Harness) -> None:
        barrier = fan_out(harness, 1, max_attempts=2)
        claim(harness)
        harness.advance(61)
        harness.store.expire_claims(limit=9)
        assert state(harness, barrier).state is BarrierState.OPEN
        claim(harness)
        harness.advance(61)
        harness.store.expire_claims(limit=9)
        self.check(harness, barrier, barrier.member_ids[0])

    def test_a_batch_with_successes_and_a_death(self, harness: Harness) -> None:
        barrier = fan_out(harness, 3)
        claims = claim(harness)
        outcomes: list[Any] = [Success(), Death(failure=FAILURE), Death(failure=FAILURE)]
        batch = [
            Settlement(message_id=c.message.id, token=c.token, outcome=outcome)
            for c, outcome in zip(claims, outcomes, strict=True)
        ]
        harness.store.settle(batch)
        self.check(harness, barrier, claims[1].message.id)

    def test_the_replay_of_the_culprit_does_not_open_it_again(self, harness: Harness) -> None:
        barrier = fan_out(harness, 2)
        first, second = claim(harness)
        settle(harness, first, Death(failure=FAILURE))
        self.check(harness, barrier, first.message.id)
        harness.store.replay([first.message.id])
        settle_all(harness, [*claim(harness), second])
        assert {m.state for m in harness.store.get(barrier.member_ids).values()} == {MessageState.SUCCEEDED}
        found = state(harness, barrier)
        assert (found.state, found.culprit_id) == (BarrierState.ABORTED, first.message.id)
        assert after(harness) == []

    def test_without_on_abort_nothing_is_enqueued(self, harness: Harness) -> None:
        barrier = harness.store.barriers.create([new()], callback=CALLBACK)
        settle_all(harness, claim(harness), Death(failure=FAILURE))
        assert state(harness, barrier).state is BarrierState.ABORTED
        assert after(harness) == []


class TestRetention:
    def test_an_ended_barrier_is_kept_as_long_as_a_result_and_an_open_one_for_ever(self, harness: Harness) -> None:
        still_open, done = fan_out(harness, 1), fan_out(harness, 0)
        harness.advance(6 * 86400)
        harness.store.retain(limit=9)
        assert set(harness.store.barriers.get([still_open.id, done.id])) == {still_open.id, done.id}
        harness.advance(2 * 86400)
        harness.store.retain(limit=9)
        assert set(harness.store.barriers.get([still_open.id, done.id])) == {still_open.id}

    def test_it_is_bounded(self, harness: Harness) -> None:
        barriers = [harness.store.barriers.create([]) for _ in range(5)]
        harness.advance(8 * 86400)
        assert [harness.store.retain(limit=2) for _ in range(4)] == [2, 2, 1, 0]
        assert harness.store.barriers.get([one.id for one in barriers]) == {}


class TestContention:
    def test_one_callback_among_eight_threads(self, harness: Harness) -> None:
        for _ in range(3):
            barriers = [fan_out(harness, 20), fan_out(harness, 20)]
            claims = claim(harness, 40)
            answers = in_threads(8, lambda n, claims=claims: [settle(harness, c, Success()) for c in claims[n::8]])
            assert {answer for part in answers for answer in part} == {Settled.DONE}
            assert {state(harness, one).state for one in barriers} == {BarrierState.DONE}
            assert sorted(after(harness)) == sorted((one.callback_id, "callback") for one in barriers)

    def test_batches_over_the_same_barriers_in_another_order_do_not_stop_each_other(self, harness: Harness) -> None:
        barriers = [fan_out(harness, 24) for _ in range(4)]
        claims = claim(harness, 96)

        def work(number: int) -> list[Settled]:
            mine = claims[number::8]
            return settle_all(harness, mine if number % 2 else mine[::-1])

        assert {answer for part in in_threads(8, work) for answer in part} == {Settled.DONE}
        assert sorted(after(harness)) == sorted((one.callback_id, "callback") for one in barriers)

    def test_one_end_where_threads_succeed_fail_and_cancel_at_once(self, harness: Harness) -> None:
        for _ in range(5):
            barrier = fan_out(harness, 8)
            claims = claim(harness, 8)

            def work(number: int, claims: list[Claim] = claims) -> None:
                if number == 0:
                    harness.store.cancel([claims[0].message.id])
                elif number == 1:
                    settle(harness, claims[1], Death(failure=FAILURE))
                else:
                    settle(harness, claims[number], Success())

            in_threads(8, work)
            found = state(harness, barrier)
            assert found.state is BarrierState.ABORTED
            assert found.culprit_id in {claims[0].message.id, claims[1].message.id}
            assert [task for _, task in after(harness)] == ["on_abort"]

    @pytest.mark.processes
    def test_one_callback_among_processes_one_of_which_is_killed(
        self, harness: Harness, actor: Callable[..., Actor]
    ) -> None:
        doomed, *others = [actor() for _ in range(3)]
        barriers = [fan_out(harness, 150) for _ in range(3)]
        held = doomed("claim", limit=20, worker="doomed")
        doomed.begin("settle", claims=held)
        for number, one in enumerate(others):
            one.begin("drain", limit=7, worker=f"p{number}")
        doomed.kill()
        done = {i for one in others for i in one.answer()}
        harness.advance(61)
        harness.store.expire_claims(limit=1000)
        done |= set(others[0]("drain", limit=100, worker="heir"))
        members = {str(i) for one in barriers for i in one.member_ids}
        assert members - done <= {c["id"] for c in held}, "what the killed one has settled, nobody else did"
        assert {state(harness, one).state for one in barriers} == {BarrierState.DONE}
        assert sorted(after(harness)) == sorted((one.callback_id, "callback") for one in barriers)
