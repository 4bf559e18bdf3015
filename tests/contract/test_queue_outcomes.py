"""The guarantees of `pg_queue.ports.QueueStore` from settling on, by behaviour. Each store passes all of it."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from pg_queue.domain import Capability, Death, MessageState, NewEvent, Retry, Settled, Settlement, Success
from tests.contract.actions import FAILURE, LEASE, claim, in_threads, new, pair, settle, settle_all
from tests.contract.harness import Harness

# Only the queue's tables are emptied: what the project's migrations wrote elsewhere stays.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])

FORGOTTEN = Success(value="dropped", keep=False)


class TestSettle:
    def test_a_success_leaves_a_result_and_no_message(self, harness: Harness) -> None:
        (message_id,) = harness.store.enqueue([new(headers={"k": "v"}, organization_id="acme")])
        (one,) = claim(harness)
        assert settle(harness, one, Success(value={"rows": [1, 2]})) is Settled.DONE
        message = harness.store.get([message_id])[message_id]
        assert (message.state, message.result, message.error) == (MessageState.SUCCEEDED, {"rows": [1, 2]}, None)
        assert (message.headers, message.organization_id, message.worker) == ({"k": "v"}, "acme", "w1")
        assert message.started_at is not None
        assert message.finished_at is not None
        assert message.enqueued_at <= message.started_at <= message.finished_at
        assert harness.store.depths() == []

    def test_a_second_settle_changes_nothing_and_says_so(self, harness: Harness) -> None:
        (message_id,) = harness.store.enqueue([new()])
        (one,) = claim(harness)
        settle(harness, one, Success(value="first"))
        for outcome in (Success(value="second"), Retry(failure=FAILURE, delay=timedelta()), Death(failure=FAILURE)):
            assert settle(harness, one, outcome) is Settled.LOST
        assert harness.store.get([message_id])[message_id].result == "first"

    def test_a_retry_waits_for_its_delay_and_keeps_the_error(self, harness: Harness) -> None:
        (message_id,) = harness.store.enqueue([new(max_attempts=2)])
        (one,) = claim(harness)
        assert settle(harness, one, Retry(failure=FAILURE, delay=timedelta(seconds=30))) is Settled.RETRYING
        message = harness.store.get([message_id])[message_id]
        assert (message.state, message.error, message.attempts) == (MessageState.WAITING, FAILURE, 1)
        harness.advance(20)
        assert claim(harness) == []
        harness.advance(11)
        assert [c.message.attempts for c in claim(harness)] == [2]

    def test_a_retry_whose_attempts_are_used_up_is_a_death(self, harness: Harness) -> None:
        (message_id,) = harness.store.enqueue([new(max_attempts=1)])
        (one,) = claim(harness)
        assert settle(harness, one, Retry(failure=FAILURE, delay=timedelta())) is Settled.DEAD
        message = harness.store.get([message_id])[message_id]
        assert (message.state, message.error) == (MessageState.FAILED, FAILURE)
        assert [depth.dead for depth in harness.store.depths()] == [1]

    def test_a_death_is_final_whatever_attempts_are_left(self, harness: Harness) -> None:
        (message_id,) = harness.store.enqueue([new(max_attempts=9)])
        (one,) = claim(harness)
        assert settle(harness, one, Death(failure=FAILURE)) is Settled.DEAD
        assert harness.store.get([message_id])[message_id].state is MessageState.FAILED
        assert claim(harness) == []

    def test_a_batch_settles_each_by_its_own_outcome(self, harness: Harness) -> None:
        harness.store.enqueue([new() for _ in range(4)])
        done, retried, dead, lost = claim(harness)
        settle(harness, lost, Success())
        outcomes = [Success(), Retry(failure=FAILURE, delay=timedelta()), Death(failure=FAILURE), Success()]
        answers = harness.store.settle(
            [
                Settlement(message_id=c.message.id, token=c.token, outcome=outcome)
                for c, outcome in zip((done, retried, dead, lost), outcomes, strict=True)
            ]
        )
        wanted = (Settled.DONE, Settled.RETRYING, Settled.DEAD, Settled.LOST)
        assert [answers[c.token] for c in (done, retried, dead, lost)] == list(wanted)

    def test_of_a_success_that_is_not_to_be_kept_nothing_stays(self, harness: Harness) -> None:
        ids = harness.store.enqueue([new() for _ in range(3)])
        first, second, lost = claim(harness)
        harness.store.cancel([lost.message.id])
        assert settle(harness, first, FORGOTTEN) is Settled.DONE
        assert settle_all(harness, [second, lost, first], FORGOTTEN) == [Settled.DONE, Settled.LOST, Settled.LOST]
        assert set(harness.store.get(ids)) == {lost.message.id}
        assert harness.store.depths() == []
        assert claim(harness) == []
        assert harness.store.renew([pair(first)], lease=LEASE) == set()
        harness.advance(1e6)
        assert harness.store.expire_claims(limit=10) == 0
        assert harness.store.retain(limit=10) == 1, "the one that was cancelled"

    def test_a_token_that_no_longer_holds_forgets_nothing(self, harness: Harness) -> None:
        (message_id,) = harness.store.enqueue([new()])
        (stale,) = claim(harness)
        harness.store.release([pair(stale)])
        (held,) = claim(harness, worker="w2")
        assert settle(harness, stale, FORGOTTEN) is Settled.LOST
        assert harness.store.get([message_id])[message_id].worker == "w2"
        assert settle(harness, held, Success(value=1)) is Settled.DONE
        assert settle(harness, held, FORGOTTEN) is Settled.LOST
        assert harness.store.get([message_id])[message_id].result == 1

    def test_the_end_that_somebody_needs_is_kept_without_its_value(self, harness: Harness) -> None:
        can = harness.store.capabilities
        needed = [new(report_to="runs")]
        needed += [new(key="k")] if Capability.KEYS in can else []
        needed += [new(on_failure=[new(queue="after")])] if Capability.CONTINUATIONS in can else []
        ids = harness.store.enqueue(needed)
        if Capability.BARRIERS in can:
            ids += harness.store.barriers.create([new()], callback=new(queue="after")).member_ids
        assert settle_all(harness, claim(harness), FORGOTTEN) == [Settled.DONE] * len(ids)
        found = harness.store.get(ids)
        assert {one.id: (one.state, one.result) for one in found.values()} == dict.fromkeys(
            ids, (MessageState.SUCCEEDED, None)
        )
        assert [one.id for one in harness.store.take_outcomes("runs", limit=10)] == ids[:1]
        assert len(claim(harness, 10, "after")) == (Capability.BARRIERS in can)

    @pytest.mark.capability("events")
    def test_a_success_with_events_is_kept(self, harness: Harness) -> None:
        harness.store.enqueue([new(), new()])
        told, silent = claim(harness)
        answers = harness.store.settle(
            [
                Settlement(message_id=one.message.id, token=one.token, outcome=FORGOTTEN, events=events)
                for one, events in ((told, [NewEvent(topic="t", payload=1)]), (silent, []))
            ]
        )
        assert answers == {told.token: Settled.DONE, silent.token: Settled.DONE}
        assert set(harness.store.get([told.message.id, silent.message.id])) == {told.message.id}
        assert [one.waiting for one in harness.store.outbox.backlog()] == [1]

    @pytest.mark.parametrize("others", [[Success(value=1)], [Retry(failure=FAILURE, delay=timedelta())]])
    def test_what_is_kept_and_what_is_not_are_settled_in_one_batch(
        self, harness: Harness, others: list[Success | Retry]
    ) -> None:
        outcomes = [FORGOTTEN, *others, FORGOTTEN]
        ids = harness.store.enqueue([new() for _ in outcomes])
        answers = harness.store.settle(
            [
                Settlement(message_id=c.message.id, token=c.token, outcome=outcome)
                for c, outcome in zip(claim(harness), outcomes, strict=True)
            ]
        )
        assert Settled.LOST not in answers.values()
        assert set(harness.store.get(ids)) == set(ids[1:-1])

    def test_a_message_that_was_forgotten_leaves_nothing_of_an_earlier_one(self, harness: Harness) -> None:
        (message_id,) = harness.store.enqueue([new()])
        settle(harness, claim(harness)[0], Success(value="old"))
        harness.store.enqueue([new(id=message_id)])
        assert settle(harness, claim(harness)[0], FORGOTTEN) is Settled.DONE
        assert harness.store.get([message_id]) == {}

    def test_settling_nothing_is_nothing(self, harness: Harness) -> None:
        assert harness.store.settle([]) == {}
        assert harness.store.renew([], lease=LEASE) == set()
        assert harness.store.get([]) == {}


class TestOutcomes:
    def finish(self, harness: Harness, count: int, report_to: str | None = "me") -> list[uuid.UUID]:
        ids = harness.store.enqueue([new(report_to=report_to) for _ in range(count)])
        for one in claim(harness, count):
            settle(harness, one, Success(value=1))
        return ids

    def test_outcomes_are_handed_over_oldest_first_and_once(self, harness: Harness) -> None:
        ids = self.finish(harness, 5)
        first, rest = harness.store.take_outcomes("me", limit=3), harness.store.take_outcomes("me", limit=3)
        assert [m.id for m in [*first, *rest]] == ids
        assert {m.report_to for m in first} == {"me"}
        assert harness.store.take_outcomes("me", limit=3) == []

    @pytest.mark.capability("transactions")
    def test_a_rolled_back_hand_over_did_not_happen(self, harness: Harness) -> None:
        ids = self.finish(harness, 1)
        with transaction.atomic():
            assert [m.id for m in harness.store.take_outcomes("me", limit=9)] == ids
            transaction.set_rollback(True)
        assert [m.id for m in harness.store.take_outcomes("me", limit=9)] == ids

    def test_what_is_held_is_handed_over_again_until_it_or_its_transaction_is_confirmed(self, harness: Harness) -> None:
        ids, hold = self.finish(harness, 3), timedelta(minutes=1)
        taken = harness.store.take_outcomes("me", limit=9, hold=hold)
        harness.store.confirm_outcomes("me", taken[:1])
        assert harness.store.take_outcomes("me", limit=9, hold=hold) == []
        harness.advance(61)
        again = harness.store.take_outcomes("me", limit=9, hold=hold)
        wanted = set() if Capability.TRANSACTIONS in harness.store.capabilities else {(i, "me") for i in ids[1:]}
        assert {(m.id, m.report_to) for m in again} == wanted
        harness.store.confirm_outcomes("me", again)
        harness.advance(61)
        assert harness.store.take_outcomes("me", limit=9) == []

    def test_what_is_held_is_kept_and_its_time_runs_once_it_is_confirmed(self, harness: Harness) -> None:
        ids = self.finish(harness, 1)
        taken = harness.store.take_outcomes("me", limit=9, hold=timedelta(minutes=1))
        harness.store.confirm_outcomes("me", taken)
        harness.advance(8 * 86400)
        assert harness.store.retain(limit=9) == 1
        assert harness.store.get(ids) == {}

    def test_a_late_word_of_an_outcome_says_nothing_of_the_one_that_came_after(self, harness: Harness) -> None:
        (message_id,) = harness.store.enqueue([new(report_to="me")])
        (one,) = claim(harness)
        settle(harness, one, Death(failure=FAILURE))
        taken = harness.store.take_outcomes("me", limit=9, hold=timedelta(minutes=1))
        harness.store.replay([message_id])
        (one,) = claim(harness)
        settle(harness, one, Success(value=2))
        harness.store.confirm_outcomes("me", taken)
        assert [m.result for m in harness.store.take_outcomes("me", limit=9)] == [2]

    def test_only_the_named_consumers_outcomes_and_only_terminal_ones(self, harness: Harness) -> None:
        self.finish(harness, 1, report_to="other")
        self.finish(harness, 1, report_to=None)
        harness.store.enqueue([new(report_to="me")])
        (one,) = claim(harness)
        settle(harness, one, Retry(failure=FAILURE, delay=timedelta()))
        assert harness.store.take_outcomes("me", limit=9) == []
        (one,) = claim(harness)
        settle(harness, one, Death(failure=FAILURE))
        assert [(m.state, m.error) for m in harness.store.take_outcomes("me", limit=9)] == [
            (MessageState.FAILED, FAILURE)
        ]

    def test_concurrent_consumers_get_disjoint_outcomes(self, harness: Harness) -> None:
        ids = self.finish(harness, 100)

        def take(_: int) -> list[uuid.UUID]:
            return [m.id for _ in range(10) for m in harness.store.take_outcomes("me", limit=7)]

        assert Counter(i for found in in_threads(4, take) for i in found) == Counter(ids)

    def test_an_outcome_outlives_its_time_until_it_was_taken(self, harness: Harness) -> None:
        ids = self.finish(harness, 1)
        harness.advance(8 * 86400)
        assert harness.store.retain(limit=9) == 0
        assert [m.id for m in harness.store.take_outcomes("me", limit=9)] == ids
        assert harness.store.retain(limit=9) == 1
        assert harness.store.get(ids) == {}

    def test_retention_is_bounded_and_zero_means_for_ever(self, harness: Harness) -> None:
        harness.store.enqueue([new() for _ in range(5)])
        *mortal, eternal = claim(harness)
        for one in mortal:
            settle(harness, one, Success(ttl=timedelta(seconds=10)))
        settle(harness, eternal, Success(ttl=timedelta()))
        assert harness.store.retain(limit=9) == 0
        harness.advance(400 * 86400)
        assert [harness.store.retain(limit=3) for _ in range(3)] == [3, 1, 0]
        assert list(harness.store.get(c.message.id for c in [*mortal, eternal])) == [eternal.message.id]


class TestDeadLetters:
    def die(self, harness: Harness, **fields: Any) -> uuid.UUID:
        (message_id,) = harness.store.enqueue([new("echo", args=[1], kwargs={"k": 2}, max_attempts=2, **fields)])
        (one,) = claim(harness)
        settle(harness, one, Death(failure=FAILURE))
        return message_id

    def test_a_replayed_dead_letter_waits_with_all_its_attempts(self, harness: Harness) -> None:
        message_id = self.die(harness, headers={"h": 1}, priority=7, organization_id="acme")
        assert harness.store.replay([message_id, uuid.uuid4()]) == {message_id}
        (one,) = claim(harness)
        message = one.message
        assert (message.id, message.args, message.kwargs, message.headers) == (message_id, [1], {"k": 2}, {"h": 1})
        assert (message.priority, message.organization_id, message.max_attempts) == (7, "acme", 2)
        assert (message.attempts, message.error) == (1, FAILURE)
        assert harness.store.replay([message_id]) == set()

    @pytest.mark.parametrize(("max_attempts", "left"), [(5, 4), (1, 1)])
    def test_a_replay_may_keep_what_was_tried_and_then_what_is_left_is_left(
        self, harness: Harness, max_attempts: int, left: int
    ) -> None:
        (message_id,) = harness.store.enqueue([new(max_attempts=max_attempts)])
        settle(harness, claim(harness)[0], Death(failure=FAILURE))
        assert harness.store.replay([message_id], keep_attempts=True) == {message_id}
        for number in range(left):
            (again,) = claim(harness)
            answer = settle(harness, again, Retry(failure=FAILURE, delay=timedelta()))
            assert answer is (Settled.RETRYING if number < left - 1 else Settled.DEAD)
        harness.store.replay([message_id])
        assert harness.store.get([message_id])[message_id].attempts == 0

    def test_a_replayed_message_reports_its_new_outcome(self, harness: Harness) -> None:
        message_id = self.die(harness, report_to="me")
        assert len(harness.store.take_outcomes("me", limit=9)) == 1
        harness.store.replay([message_id])
        (one,) = claim(harness)
        assert settle(harness, one, Success(value="at last")) is Settled.DONE
        assert [m.result for m in harness.store.take_outcomes("me", limit=9)] == ["at last"]

    def test_a_replay_that_dies_again_is_a_dead_letter_again(self, harness: Harness) -> None:
        message_id = self.die(harness)
        harness.store.replay([message_id])
        (one,) = claim(harness)
        assert settle(harness, one, Death(failure=FAILURE)) is Settled.DEAD
        assert harness.store.replay([message_id]) == {message_id}

    def test_dead_letters_leave_when_their_time_is_up(self, harness: Harness) -> None:
        self.die(harness)
        harness.advance(31 * 86400)
        assert harness.store.retain(limit=9) == 2
        assert harness.store.depths() == []
