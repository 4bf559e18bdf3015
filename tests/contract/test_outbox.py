"""The guarantees of `pg_queue.ports.Outbox`, by behaviour. Each store that has one passes all of it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from pg_queue.domain import Backlog, Death, Event, NewEvent, Retry, Settled, Settlement, Success
from tests.contract.actions import FAILURE, LEASE, claim, in_threads, new
from tests.contract.harness import Harness

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.capability("events"),
]


def event(payload: Any = None, topic: str = "t", **fields: Any) -> NewEvent:
    return NewEvent(topic=topic, payload=payload, **fields)


def lease(harness: Harness, *topics: str, limit: int = 100) -> list[Event]:
    return harness.store.outbox.lease(topics or ("t",), limit=limit, lease=LEASE)


def waiting(harness: Harness) -> dict[str, int]:
    return {one.topic: one.waiting for one in harness.store.outbox.backlog()}


class TestPublish:
    def test_an_event_keeps_what_it_was_given(self, harness: Harness) -> None:
        event_id = uuid.uuid4()
        payload = {"a": [1, None, "ü", True, 1.5]}
        assert harness.store.outbox.publish([event(payload, key="order:1", id=event_id)]) == [event_id]
        (found,) = lease(harness)
        assert (found.id, found.topic, found.payload, found.key) == (event_id, "t", payload, "order:1")
        assert (found.attempts, found.error) == (1, "")

    @pytest.mark.parametrize("payload", [None, True, 0, "", [], {}])
    def test_any_json_is_a_payload(self, harness: Harness, payload: Any) -> None:
        harness.store.outbox.publish([event(payload)])
        assert [(type(e.payload), e.payload) for e in lease(harness)] == [(type(payload), payload)]

    def test_without_a_key_the_id_is_what_a_repetition_is_known_by(self, harness: Harness) -> None:
        (event_id,) = harness.store.outbox.publish([event()])
        assert [found.key for found in lease(harness)] == [str(event_id)]

    def test_ids_come_back_in_the_order_of_the_events_and_events_leave_in_it(self, harness: Harness) -> None:
        ids = harness.store.outbox.publish([event(number) for number in range(500)])
        ids += harness.store.outbox.publish([event(number) for number in range(500, 510)])
        found = lease(harness, limit=1000)
        assert [one.id for one in found] == ids
        assert [one.payload for one in found] == list(range(510))

    def test_publishing_nothing_is_nothing(self, harness: Harness) -> None:
        assert harness.store.outbox.publish([]) == []
        assert harness.store.outbox.confirm([]) == set()
        assert harness.store.outbox.backlog() == []

    @pytest.mark.capability("transactions")
    def test_nothing_is_published_when_the_callers_transaction_is_rolled_back(self, harness: Harness) -> None:
        with transaction.atomic():
            harness.store.outbox.publish([event()])
            transaction.set_rollback(True)
        assert lease(harness) == []


class TestLease:
    def test_never_more_than_the_limit_and_the_oldest_first(self, harness: Harness) -> None:
        harness.store.outbox.publish([event(number) for number in range(5)])
        found = [[one.payload for one in lease(harness, limit=2)] for _ in range(4)]
        assert found == [[0, 1], [2, 3], [4], []]

    def test_only_the_topics_asked_for_and_the_oldest_of_all_of_them_first(self, harness: Harness) -> None:
        for number, topic in enumerate(["b", "a", "c", "b", "a"]):
            harness.store.outbox.publish([event(number, topic)])
        assert [one.payload for one in lease(harness, "a", "b", "a", limit=3)] == [0, 1, 3]
        assert [one.payload for one in lease(harness, "a", "b")] == [4]

    def test_a_live_lease_has_one_holder_and_one_that_has_run_out_another(self, harness: Harness) -> None:
        harness.store.outbox.publish([event()])
        (first,) = lease(harness)
        assert lease(harness) == []
        harness.advance(61)
        (second,) = lease(harness)
        assert (second.id, second.attempts) == (first.id, 2)
        assert second.token != first.token

    def test_each_event_has_one_holder_among_threads(self, harness: Harness) -> None:
        ids = harness.store.outbox.publish([event(topic="ab"[number % 2]) for number in range(300)])

        def drain(_: int) -> list[uuid.UUID]:
            found: list[uuid.UUID] = []
            while events := lease(harness, "a", "b", limit=7):
                found += [one.id for one in events]
            return found

        assert Counter(i for found in in_threads(6, drain) for i in found) == Counter(ids)


class TestConfirm:
    def test_what_was_confirmed_is_gone(self, harness: Harness) -> None:
        ids = harness.store.outbox.publish([event(), event()])
        assert harness.store.outbox.confirm(lease(harness)) == set(ids)
        harness.advance(3600)
        assert lease(harness) == []
        assert harness.store.outbox.backlog() == []

    def test_a_lease_that_somebody_else_has_now_confirms_nothing(self, harness: Harness) -> None:
        harness.store.outbox.publish([event()])
        stale = lease(harness)
        harness.advance(61)
        fresh = lease(harness)
        assert harness.store.outbox.confirm(stale) == set()
        assert harness.store.outbox.defer(stale, delay=timedelta(), error="late") == set()
        assert harness.store.outbox.confirm(fresh) == {fresh[0].id}
        assert harness.store.outbox.confirm(fresh) == set()

    def test_a_relay_that_comes_late_and_first_may_still_confirm(self, harness: Harness) -> None:
        harness.store.outbox.publish([event()])
        late = lease(harness)
        harness.advance(61)
        assert harness.store.outbox.confirm(late) == {late[0].id}


class TestDefer:
    def test_what_was_put_off_waits_for_its_delay_and_says_why(self, harness: Harness) -> None:
        harness.store.outbox.publish([event()])
        (one,) = lease(harness)
        assert harness.store.outbox.defer([one], delay=timedelta(seconds=30), error="no broker") == {one.id}
        assert lease(harness) == []
        harness.advance(31)
        (again,) = lease(harness)
        assert (again.id, again.attempts, again.error) == (one.id, 2, "no broker")

    def test_what_was_put_off_is_held_no_more(self, harness: Harness) -> None:
        harness.store.outbox.publish([event()])
        (one,) = lease(harness)
        harness.store.outbox.defer([one], delay=timedelta(), error="no broker")
        assert harness.store.outbox.confirm([one]) == set()
        assert len(lease(harness)) == 1


class TestBacklog:
    def test_it_counts_what_waits_and_what_fails_by_topic(self, harness: Harness) -> None:
        harness.store.outbox.publish([event(topic="b"), *(event(topic="a") for _ in range(3))])
        harness.advance(100)
        confirmed, failed, _ = lease(harness, "a")
        harness.store.outbox.confirm([confirmed])
        harness.store.outbox.defer([failed], delay=timedelta(seconds=9), error="no broker")
        a, b = harness.store.outbox.backlog()
        assert (a.topic, a.waiting, a.failing) == ("a", 2, 1)
        assert (b.topic, b.waiting, b.failing) == ("b", 1, 0)
        assert 100 <= a.oldest_seconds < 160
        assert isinstance(a, Backlog)


class TestEventsOfSettlements:
    def settle(
        self, harness: Harness, outcome: Success | Retry | Death, *payloads: Any, token: uuid.UUID | None = None
    ) -> Settled:
        (one,) = claim(harness)
        settlement = Settlement(
            message_id=one.message.id,
            token=token or one.token,
            outcome=outcome,
            events=[event(payload) for payload in payloads],
        )
        return harness.store.settle([settlement])[settlement.token]

    @pytest.mark.parametrize(
        ("outcome", "settled"),
        [
            (Success(value=1), Settled.DONE),
            (Retry(failure=FAILURE, delay=timedelta()), Settled.RETRYING),
            (Death(failure=FAILURE), Settled.DEAD),
        ],
    )
    def test_they_are_published_with_the_settlement(
        self, harness: Harness, outcome: Success | Retry | Death, settled: Settled
    ) -> None:
        harness.store.enqueue([new()])
        assert self.settle(harness, outcome, "first", "second") is settled
        assert [one.payload for one in lease(harness)] == ["first", "second"]

    @pytest.mark.parametrize("outcome", [Success(), Retry(failure=FAILURE, delay=timedelta()), Death(failure=FAILURE)])
    def test_they_are_not_published_when_the_claim_was_lost(
        self, harness: Harness, outcome: Success | Retry | Death
    ) -> None:
        harness.store.enqueue([new()])
        assert self.settle(harness, outcome, "never", token=uuid.uuid4()) is Settled.LOST
        assert waiting(harness) == {}

    def test_in_a_batch_each_goes_by_its_own_token(self, harness: Harness) -> None:
        harness.store.enqueue([new() for _ in range(4)])
        held = claim(harness)
        tokens: Sequence[uuid.UUID] = [held[0].token, uuid.uuid4(), held[2].token, held[3].token]
        outcomes: Sequence[Any] = [Success(), Success(), Death(failure=FAILURE), Success()]
        answers = harness.store.settle(
            [
                Settlement(
                    message_id=one.message.id,
                    token=token,
                    outcome=outcome,
                    events=[event(number)] if number < 3 else [],
                )
                for number, (one, token, outcome) in enumerate(zip(held, tokens, outcomes, strict=True))
            ]
        )
        wanted = [Settled.DONE, Settled.LOST, Settled.DEAD, Settled.DONE]
        assert [answers[token] for token in tokens] == wanted
        assert [one.payload for one in lease(harness)] == [0, 2]


class TestByHand:
    def test_events_are_found_by_id_until_they_have_left(self, harness: Harness) -> None:
        outbox = harness.store.outbox
        first, second = outbox.publish([event({"a": 1}, key="k"), event(2)])
        (held,) = lease(harness, limit=1)
        found = outbox.get([second, first, uuid.uuid4()])
        assert set(found) == {first, second}
        one = found[first]
        assert (one.id, one.topic, one.payload, one.key, one.attempts) == (first, "t", {"a": 1}, "k", 1)
        assert (found[second].key, found[second].attempts) == (str(second), 0)
        outbox.defer([held], delay=timedelta(hours=1), error="no")
        assert outbox.get([first])[first].error == "no"
        outbox.confirm(lease(harness))
        assert set(outbox.get([first, second])) == {first}
        assert outbox.get([]) == {}

    def test_what_is_dropped_never_leaves_whoever_has_it_in_hand(self, harness: Harness) -> None:
        outbox = harness.store.outbox
        first, second, third = outbox.publish([event(1), event(2), event(3)])
        (held,) = lease(harness, limit=1)
        assert outbox.drop([first, second, uuid.uuid4()]) == {first, second}
        assert outbox.drop([first]) == outbox.drop([]) == set()
        assert outbox.confirm([held]) == outbox.defer([held], delay=LEASE, error="") == set()
        assert waiting(harness) == {"t": 1}
        assert [one.id for one in lease(harness)] == [third]

    @pytest.mark.capability("namespaces")
    def test_nobody_finds_or_drops_another_tenants(self, harness: Harness) -> None:
        (own,) = harness.store.outbox.publish([event(1)])
        other = harness.store.within("b").outbox
        assert other.get([own]) == {}
        assert other.drop([own]) == set()
        assert set(harness.store.outbox.get([own])) == {own}

    def test_what_nobody_can_read_is_dropped_like_any_other(self, harness: Harness) -> None:
        (spoilt,) = harness.store.outbox.publish([event(1)])
        harness.spoil_event(spoilt)
        assert harness.store.outbox.get([spoilt]) == {}
        assert harness.store.outbox.drop([spoilt]) == {spoilt}
        assert harness.store.outbox.backlog() == []
