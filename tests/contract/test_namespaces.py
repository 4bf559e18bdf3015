"""One store, several tenants: what one does, another neither sees nor feels. Only the housekeeping is for all."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from pg_queue.domain import Claim, Death, MessageState, Retry, Settled, Settlement, Success
from pg_queue.errors import Configuration
from pg_queue.ports import QueueStore
from tests.contract.actions import FAILURE, LEASE, in_threads, new
from tests.contract.harness import Harness

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.capability("namespaces"),
]


@pytest.fixture
def stores(harness: Harness) -> list[QueueStore]:
    """The store itself, and what two tenants see of it."""
    return [harness.store, harness.store.within("a"), harness.store.within("b")]


def claim(store: QueueStore, limit: int = 10) -> list[Claim]:
    return store.claim(queues=["default"], limit=limit, lease=LEASE, worker=f"w-{store.namespace}")


def settle(store: QueueStore, one: Claim, outcome: Success | Retry | Death) -> Settled:
    return store.settle([Settlement(message_id=one.message.id, token=one.token, outcome=outcome)])[one.token]


def enqueue_one_each(stores: list[QueueStore], **fields: object) -> list[uuid.UUID]:
    return [store.enqueue([new(args=[store.namespace], **fields)])[0] for store in stores]


class TestWithin:
    def test_a_store_within_a_namespace_is_made_once(self, harness: Harness) -> None:
        tenant = harness.store.within("a")
        assert (tenant.namespace, harness.store.namespace) == ("a", "")
        assert harness.store.within("a") is tenant
        assert tenant.within("") is harness.store
        assert tenant.within("b").namespace == "b"
        assert tenant.capabilities == harness.store.capabilities

    @pytest.mark.parametrize("name", ["a b", "a,b", "n" * 65, "ü", "a\n", "a/b"])
    def test_a_name_that_is_none_is_refused(self, harness: Harness, name: str) -> None:
        with pytest.raises(Configuration, match="NAMESPACE"):
            harness.store.within(name)

    def test_the_longest_name_is_one(self, harness: Harness) -> None:
        tenant = harness.store.within("n" * 64)
        ids = tenant.enqueue([new()])
        assert [one.message.id for one in claim(tenant)] == ids


class TestMessages:
    def test_each_claims_its_own(self, stores: list[QueueStore]) -> None:
        ids = enqueue_one_each(stores)
        assert [store.next_due_seconds(["default"]) for store in stores] == [0, 0, 0]
        claims = [claim(store) for store in stores]
        assert [[one.message.id for one in found] for found in claims] == [[one] for one in ids]
        assert [store.next_due_seconds(["default"]) for store in stores] == [None] * 3

    def test_a_batch_is_the_namespaces_too(self, stores: list[QueueStore]) -> None:
        _, a, b = stores
        ids = a.enqueue([new(args=[number]) for number in range(50)])
        assert claim(b) == []
        assert [one.message.id for one in claim(a, 100)] == ids

    def test_each_reads_its_own_in_every_state(self, stores: list[QueueStore]) -> None:
        ids = enqueue_one_each(stores)

        def assert_each_sees_its_own(state: MessageState) -> None:
            for store, own in zip(stores, ids, strict=True):
                assert {i: message.state for i, message in store.get(ids).items()} == {own: state}

        assert_each_sees_its_own(MessageState.WAITING)
        claims = [claim(store)[0] for store in stores]
        assert_each_sees_its_own(MessageState.RUNNING)
        for store, one in zip(stores, claims, strict=True):
            assert settle(store, one, Retry(failure=FAILURE, delay=timedelta())) is Settled.RETRYING
        assert_each_sees_its_own(MessageState.WAITING)
        for store in stores:
            settle(store, claim(store)[0], Success())
        assert_each_sees_its_own(MessageState.SUCCEEDED)

    def test_each_counts_its_own(self, stores: list[QueueStore]) -> None:
        root, a, b = stores
        a.enqueue([new(), new(), new(queue="other"), new(max_attempts=1)])
        settle(a, claim(a, 1)[0], Death(failure=FAILURE))
        claim(a, 1)
        b.enqueue([new()])
        assert [(d.queue, d.waiting, d.running, d.dead) for d in a.depths()] == [
            ("default", 1, 1, 1),
            ("other", 1, 0, 0),
        ]
        assert [(d.queue, d.waiting) for d in b.depths()] == [("default", 1)]
        assert list(root.depths()) == []

    def test_each_takes_its_own_outcomes(self, stores: list[QueueStore]) -> None:
        ids = enqueue_one_each(stores, report_to="me")
        for store in stores:
            settle(store, claim(store)[0], Success())
        for store, own in zip(stores, ids, strict=True):
            assert [message.id for message in store.take_outcomes("me", limit=10)] == [own]
            assert store.take_outcomes("me", limit=10) == []

    @pytest.mark.parametrize("outcome", [Success(value="b's"), Death(failure=FAILURE)])
    def test_an_id_that_another_has_used_up_tells_it_nothing(
        self, stores: list[QueueStore], outcome: Success | Death
    ) -> None:
        _, a, b = stores
        (used,) = a.enqueue([new(args=["a's"])])
        settle(a, claim(a)[0], outcome if isinstance(outcome, Death) else Success(value="a's"))
        b.enqueue([new(id=used, args=["b's"], organization_id="b's")])
        settle(b, claim(b)[0], outcome)
        assert a.get([used]) == {}
        assert b.get([used])[used].organization_id == "b's"
        if isinstance(outcome, Death):
            assert (a.replay([used]), b.replay([used])) == (set(), {used})
            assert claim(b)[0].message.args == ["b's"]

    def test_each_replays_its_own(self, stores: list[QueueStore]) -> None:
        ids = enqueue_one_each(stores, max_attempts=1)
        for store in stores:
            settle(store, claim(store)[0], Death(failure=FAILURE))
        for store, own in zip(stores, ids, strict=True):
            assert store.replay(ids) == {own}
            assert [one.message.id for one in claim(store)] == [own]

    @pytest.mark.capability("cancel")
    def test_each_cancels_its_own(self, stores: list[QueueStore]) -> None:
        ids = enqueue_one_each(stores)
        assert stores[1].cancel(ids) == {ids[1]}
        assert [len(claim(store)) for store in stores] == [1, 0, 1]

    @pytest.mark.capability("keys")
    def test_a_key_is_the_namespaces(self, stores: list[QueueStore]) -> None:
        ids = enqueue_one_each(stores, key="k", key_ttl=timedelta())
        assert len(set(ids)) == 3
        settle(stores[1], claim(stores[1])[0], Success())
        again = enqueue_one_each(stores, key="k")
        assert [old == found for old, found in zip(ids, again, strict=True)] == [True, False, True]

    def test_a_claim_is_settled_by_its_token_whoever_says_so(self, stores: list[QueueStore]) -> None:
        _, a, b = stores
        (first, second) = a.enqueue([new(), new()])
        claims = claim(a)
        assert b.renew([(one.message.id, one.token) for one in claims], lease=LEASE) == {one.token for one in claims}
        assert b.release([(second, claims[1].token)]) == {claims[1].token}
        assert settle(b, claims[0], Success(value=1)) is Settled.DONE
        assert b.get([first, second]) == {}
        assert a.get([first])[first].result == 1
        assert [one.message.id for one in claim(a)] == [second]

    def test_tenants_at_one_time_keep_apart(self, stores: list[QueueStore]) -> None:
        def work(number: int) -> bool:
            store = stores[number % 3]
            ids = store.enqueue([new(args=[store.namespace]) for _ in range(20)])
            found = claim(store, 20)
            return bool(ids) and all(one.message.args == [store.namespace] for one in found)

        assert all(in_threads(6, work))
        assert [sum(d.waiting + d.running for d in store.depths()) for store in stores] == [40, 40, 40]


class TestWorkers:
    def test_each_lists_its_own(self, stores: list[QueueStore]) -> None:
        for store in stores:
            store.workers.announce(f"h:1:{store.namespace}", host="h", process_id=1, queues=["q"], concurrency=1)
        _, a, b = stores
        assert [one.id for one in a.workers.list()] == ["h:1:a"]
        assert not b.workers.beat("h:1:a", running=0, finished=0, failed=0)


class TestHousekeeping:
    """One reaper does for a store."""

    def test_claims_of_all_are_taken_back(self, harness: Harness, stores: list[QueueStore]) -> None:
        enqueue_one_each(stores, max_attempts=1)
        for store in stores:
            claim(store)
        harness.advance(61)
        assert harness.store.expire_claims(limit=10) == 3
        assert [[(d.running, d.dead) for d in store.depths()] for store in stores] == [[(0, 1)]] * 3

    def test_what_is_past_its_time_goes_in_all(self, harness: Harness, stores: list[QueueStore]) -> None:
        ids = enqueue_one_each(stores)
        for store in stores:
            settle(store, claim(store)[0], Success(ttl=timedelta(seconds=10)))
        harness.advance(11)
        assert stores[1].retain(limit=10) == 3
        assert [store.get(ids) for store in stores] == [{}] * 3

    def test_workers_of_all_are_forgotten(self, harness: Harness, stores: list[QueueStore]) -> None:
        for store in stores:
            store.workers.announce(f"h:1:{store.namespace}", host="h", process_id=1, queues=["q"], concurrency=1)
        harness.advance(100)
        assert stores[1].workers.forget(older_than=timedelta(seconds=50), limit=10) == 3
        assert [list(store.workers.list()) for store in stores] == [[]] * 3
