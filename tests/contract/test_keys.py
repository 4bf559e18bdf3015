"""Idempotency keys: of all enqueues with one key, one is stored while the key holds, and all answer to its id."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction

from pg_queue.domain import Death, MessageState, Retry, Success
from pg_queue.errors import InvalidMessage
from tests.contract.actions import FAILURE, LEASE, claim, in_threads, new, settle
from tests.contract.actors import Actor
from tests.contract.harness import Harness
from tests.contract.mongodb_harness import IS_STAND_IN

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.capability("keys"),
]


def waiting(harness: Harness) -> int:
    return sum(depth.waiting + depth.delayed for depth in harness.store.depths())


class TestEnqueue:
    def test_a_second_enqueue_answers_with_the_id_of_the_first_and_stores_nothing(self, harness: Harness) -> None:
        (first,) = harness.store.enqueue([new(key="k", args=[1])])
        (second,) = harness.store.enqueue([new(key="k", args=[2], queue="other")])
        assert second == first
        assert waiting(harness) == 1
        (one,) = claim(harness)
        assert (one.message.id, one.message.args, one.message.key) == (first, [1], "k")
        assert harness.store.get([first])[first].key == "k"

    def test_a_repetition_under_the_same_id_stores_nothing_either_before_and_after_the_end(
        self, harness: Harness
    ) -> None:
        once = new(key="k", id=uuid.uuid4())
        assert harness.store.enqueue([once]) == harness.store.enqueue([once]) == [once.id]
        (one,) = claim(harness)
        settle(harness, one, Success())
        assert harness.store.enqueue([once]) == [once.id]
        assert claim(harness) == []

    def test_other_keys_and_none_are_messages_of_their_own(self, harness: Harness) -> None:
        given = [new(key="a"), new(key="b"), new(), new(), new(key="A"), new(key=" a")]
        assert len(set(harness.store.enqueue(given))) == 6
        assert waiting(harness) == 6

    def test_a_key_holds_while_its_message_runs(self, harness: Harness) -> None:
        (first,) = harness.store.enqueue([new(key="k", key_ttl=timedelta())])
        claim(harness)
        harness.advance(10_000_000)
        assert harness.store.enqueue([new(key="k")]) == [first]

    def test_the_first_of_one_call_stands(self, harness: Harness) -> None:
        given = [new(key="k", args=[1]), new(args=[2]), new(key="k", args=[3]), new(key="m", args=[4]), new(args=[5])]
        ids = harness.store.enqueue(given)
        assert ids[0] == ids[2]
        assert len(set(ids)) == 4
        assert [one.message.args for one in claim(harness)] == [[1], [2], [4], [5]]

    def test_held_and_new_ones_of_one_call_are_answered_in_order(self, harness: Harness) -> None:
        held = dict(zip("bd", harness.store.enqueue([new(key="b"), new(key="d")]), strict=True))
        ids = harness.store.enqueue([new(key=key) for key in "abcd"])
        assert (ids[1], ids[3]) == (held["b"], held["d"])
        assert waiting(harness) == 4

    def test_one_object_given_twice_is_two_messages_without_a_key_and_one_with(self, harness: Harness) -> None:
        plain, keyed = new(), new(key="k")
        ids = harness.store.enqueue([plain, keyed, plain, keyed])
        assert len(set(ids)) == 3
        assert waiting(harness) == 3

    def test_a_message_keeps_everything_that_it_was_given(self, harness: Harness) -> None:
        message_id = uuid.uuid4()
        fields = {"queue": "q", "priority": 9, "max_attempts": 7, "headers": {"h": "v"}, "organization_id": "acme"}
        (found,) = harness.store.enqueue([new(args=[1, "ü"], report_to="me", id=message_id, key="k", **fields)])
        assert found == message_id
        stored = harness.store.get([found])[found]
        assert {name: getattr(stored, name) for name in fields} == fields
        assert (stored.args, stored.report_to, stored.state) == ([1, "ü"], "me", MessageState.WAITING)

    def test_more_than_one_statement_takes(self, harness: Harness, request: pytest.FixtureRequest) -> None:
        on_stand_in = request.node.callspec.params["harness"] == "mongodb" and IS_STAND_IN
        keys = 300 if on_stand_in else 2500  # that looks at every document each time
        given = [new(key=f"k{number % keys}", args=[number]) for number in range(2 * keys)]
        ids = harness.store.enqueue(given)
        assert waiting(harness) == len(set(ids)) == keys
        assert ids[:keys] == ids[keys:]
        assert [one.message.args[0] for one in claim(harness, keys)] == list(range(keys))

    def test_all_are_enqueued_or_none_and_no_key_is_left_behind(self, harness: Harness) -> None:
        (taken,) = harness.store.enqueue([new()])
        with pytest.raises((*harness.failures, InvalidMessage)):
            harness.store.enqueue([*(new(key=f"k{number}") for number in range(2500)), new(id=taken)])
        assert waiting(harness) == 1
        (free,) = harness.store.enqueue([new(key="k0")])
        assert harness.store.get([free])


TTL = timedelta(seconds=100)


def end(harness: Harness, how: str) -> None:
    """Let the one message that waits end."""
    if how == "cancelled":
        harness.store.cancel([one.message.id for one in claim(harness)])
        return
    (one,) = claim(harness)
    if how == "vanished":
        harness.advance(LEASE.total_seconds() + 1)
        assert harness.store.expire_claims(limit=10) == 1
    else:
        settle(harness, one, Success() if how == "succeeded" else Death(failure=FAILURE))


class TestEnd:
    @pytest.mark.parametrize(
        "how",
        ["succeeded", "failed", "vanished", pytest.param("cancelled", marks=pytest.mark.capability("cancel"))],
    )
    def test_a_key_holds_for_its_time_to_live_after_the_end_and_no_longer(self, harness: Harness, how: str) -> None:
        (first,) = harness.store.enqueue([new(key="k", key_ttl=TTL, max_attempts=1)])
        end(harness, how)
        harness.advance(90)
        assert harness.store.enqueue([new(key="k")]) == [first]
        assert waiting(harness) == 0
        harness.advance(11)
        (second,) = harness.store.enqueue([new(key="k", key_ttl=TTL, max_attempts=1)])
        assert second != first
        end(harness, how)
        assert harness.store.enqueue([new(key="k")]) == [second]

    def test_a_time_to_live_of_zero_ends_with_the_message(self, harness: Harness) -> None:
        (first,) = harness.store.enqueue([new(key="k", key_ttl=timedelta())])
        end(harness, "succeeded")
        (second,) = harness.store.enqueue([new(key="k", key_ttl=timedelta())])
        assert second != first

    def test_the_settings_say_how_long_where_the_message_does_not(self, harness: Harness) -> None:
        (first,) = harness.store.enqueue([new(key="k")])
        end(harness, "succeeded")
        harness.advance(86400 - 60)
        assert harness.store.enqueue([new(key="k")]) == [first]
        harness.advance(120)
        assert harness.store.enqueue([new(key="k")]) != [first]

    def test_keys_that_have_lapsed_are_deleted_in_bounded_batches(self, harness: Harness) -> None:
        for number in range(3):
            harness.store.enqueue([new(key=f"k{number}", key_ttl=TTL)])
            end(harness, "succeeded")
        harness.store.enqueue([new(key="lives", key_ttl=TTL)])
        assert harness.store.retain(limit=2) == 0
        harness.advance(101)
        assert [harness.store.retain(limit=2) for _ in range(3)] == [2, 1, 0]

    def test_a_key_holds_while_its_message_waits_for_another_attempt(self, harness: Harness) -> None:
        (first,) = harness.store.enqueue([new(key="k", key_ttl=timedelta())])
        (one,) = claim(harness)
        settle(harness, one, Retry(failure=FAILURE, delay=timedelta(seconds=1000)))
        assert harness.store.enqueue([new(key="k")]) == [first]
        harness.advance(1001)
        claim(harness)
        harness.advance(61)
        harness.store.expire_claims(limit=10)
        assert harness.store.enqueue([new(key="k")]) == [first]

    def test_what_no_longer_holds_is_deleted(self, harness: Harness) -> None:
        harness.store.enqueue([new(key=f"k{number}", key_ttl=TTL) for number in range(5)])
        for one in claim(harness, 4):
            settle(harness, one, Success(ttl=timedelta()))
        assert harness.store.retain(limit=10) == 0
        harness.advance(101)
        assert [harness.store.retain(limit=3) for _ in range(3)] == [3, 1, 0]


class TestReplay:
    def test_a_message_that_is_replayed_holds_its_key_again(self, harness: Harness) -> None:
        (first,) = harness.store.enqueue([new(key="k", key_ttl=TTL)])
        end(harness, "failed")
        assert harness.store.replay([first]) == {first}
        assert harness.store.get([first])[first].key == "k"
        harness.advance(1000)
        assert harness.store.enqueue([new(key="k")]) == [first]
        end(harness, "succeeded")
        assert harness.store.enqueue([new(key="k")]) == [first]
        harness.advance(101)
        assert harness.store.enqueue([new(key="k")]) != [first]

    def test_it_holds_its_key_again_also_when_that_was_deleted(self, harness: Harness) -> None:
        (first,) = harness.store.enqueue([new(key="k", key_ttl=timedelta())])
        end(harness, "failed")
        harness.advance(1)
        harness.store.retain(limit=10)
        harness.store.replay([first])
        assert harness.store.enqueue([new(key="k")]) == [first]
        end(harness, "succeeded")
        harness.advance(86400 - 60)  # the settings' time to live, since its own went with it
        assert harness.store.enqueue([new(key="k")]) == [first]

    def test_a_key_that_another_message_holds_by_now_stays_with_that_one(self, harness: Harness) -> None:
        (first,) = harness.store.enqueue([new(key="k", key_ttl=timedelta(), args=[1])])
        end(harness, "failed")
        (second,) = harness.store.enqueue([new(key="k", key_ttl=TTL, args=[2])])
        assert harness.store.replay([first]) == {first}
        assert waiting(harness) == 2
        assert harness.store.enqueue([new(key="k")]) == [second]
        for one in sorted(claim(harness), key=lambda one: one.message.id == first):
            settle(harness, one, Success())
        assert harness.store.enqueue([new(key="k")]) == [second]

    def test_of_two_dead_letters_with_one_key_one_holds_it(self, harness: Harness) -> None:
        ids = []
        for _ in range(2):
            ids += harness.store.enqueue([new(key="k", key_ttl=timedelta())])
            end(harness, "failed")
        assert harness.store.replay(ids) == set(ids)
        (holder,) = harness.store.enqueue([new(key="k")])
        assert holder in ids
        assert waiting(harness) == 2


@pytest.mark.capability("transactions")
class TestTransactions:
    def test_an_enqueue_that_is_rolled_back_leaves_the_key_free(self, harness: Harness) -> None:
        with transaction.atomic():
            (gone,) = harness.store.enqueue([new(key="k")])
            assert harness.store.enqueue([new(key="k")]) == [gone]
            transaction.set_rollback(True)
        (found,) = harness.store.enqueue([new(key="k")])
        assert found != gone
        assert waiting(harness) == 1

    @pytest.mark.parametrize("commits", [True, False])
    def test_of_two_at_one_time_the_second_waits_for_what_becomes_of_the_first(
        self, harness: Harness, commits: bool
    ) -> None:
        has_enqueued, may_end = threading.Event(), threading.Event()

        def enqueue(number: int) -> uuid.UUID:
            if number:
                has_enqueued.wait(60)
                threading.Timer(0.3, may_end.set).start()
                return harness.store.enqueue([new(key="k")])[0]
            with transaction.atomic():
                (found,) = harness.store.enqueue([new(key="k")])
                has_enqueued.set()
                may_end.wait(60)
                transaction.set_rollback(not commits)
            return found

        first, second = in_threads(2, enqueue)
        assert (first == second) is commits
        assert waiting(harness) == 1
        assert second in harness.store.get([first, second])

    def test_the_end_of_a_message_does_not_wait_for_whoever_asked_for_its_key(self, harness: Harness) -> None:
        if harness.has_one_writer:
            pytest.skip("the store has one writer at a time")
        harness.store.enqueue([new(key="k")])
        (one,) = claim(harness)
        settling = threading.Thread(target=in_threads, args=(1, lambda _: settle(harness, one, Success())))
        with transaction.atomic():
            harness.store.enqueue([new(key="k")])
            settling.start()
            settling.join(30)
            had_settled = not settling.is_alive()
        settling.join(60)
        assert had_settled


class TestRaces:
    def test_eight_threads_that_enqueue_one_key_store_one_message(self, harness: Harness) -> None:
        for turn in range(10):
            ids = in_threads(8, lambda number, turn=turn: harness.store.enqueue([new(key=f"k{turn}", args=[number])]))
            assert len({found for (found,) in ids}) == 1
        assert waiting(harness) == 10

    def test_batches_in_opposite_orders_do_not_block_each_other(self, harness: Harness) -> None:
        keys = [f"k{number}" for number in range(200)]

        def enqueue(number: int) -> dict[str, uuid.UUID]:
            order = keys if number % 2 else keys[::-1]
            return dict(zip(order, harness.store.enqueue([new(key=key) for key in order]), strict=True))

        found = in_threads(6, enqueue)
        assert all(one == found[0] for one in found)
        assert waiting(harness) == 200
        assert Counter(one.message.key for one in claim(harness, 300)) == Counter(keys)

    @pytest.mark.processes
    def test_processes_that_enqueue_one_key_store_one_message(
        self, harness: Harness, actor: Callable[..., Actor]
    ) -> None:
        actors = [actor() for _ in range(2)]
        for number in range(20):
            for one in actors:
                one.begin("enqueue", count=1, key=f"k{number}")
            assert len({found for one in actors for found in one.answer()}) == 1
        assert waiting(harness) == 20
