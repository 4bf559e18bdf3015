"""What an operator does by hand: look through messages and dead letters, drop, purge and clear, in bounded batches."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from pg_queue.domain import Death, Message, MessageState, Success
from tests.contract.actions import FAILURE, claim, in_threads, new, settle
from tests.contract.harness import Harness

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.capability("operations"),
]


def bury(harness: Harness, *queues: str) -> list[uuid.UUID]:
    """Dead letters, one in each of these queues; their ids, in order."""
    ids = harness.store.enqueue([new(queue=queue, args=[queue], max_attempts=1) for queue in queues])
    for one in claim(harness, len(queues), *dict.fromkeys(queues)):
        settle(harness, one, Death(failure=FAILURE))
    return sorted(ids)


class TestBrowse:
    def test_pages_go_through_all_by_id(self, harness: Harness) -> None:
        ids = sorted(harness.store.enqueue([new() for _ in range(7)]))
        found: list[Message] = []
        while page := harness.store.operations.browse(limit=3, after=found[-1].id if found else None):
            assert len(page) <= 3
            found += page
        assert [message.id for message in found] == ids

    def test_by_queue_and_by_state(self, harness: Harness) -> None:
        (a, b) = harness.store.enqueue([new(queue="a"), new(queue="b")])
        (running,) = harness.store.enqueue([new(queue="a", priority=9)])
        claim(harness, 1, "a")
        browse = harness.store.operations.browse
        assert {m.id for m in browse(limit=9)} == {a, b, running}
        assert {m.id for m in browse(queue="a", limit=9)} == {a, running}
        assert {m.id for m in browse(state=MessageState.WAITING, limit=9)} == {a, b}
        assert [m.id for m in browse(queue="a", state=MessageState.RUNNING, limit=9)] == [running]
        assert list(browse(queue="c", limit=9)) == []
        assert list(browse(state=MessageState.FAILED, limit=9)) == []

    def test_a_message_is_shown_as_get_shows_it(self, harness: Harness) -> None:
        fields = {"queue": "q", "priority": 9, "headers": {"h": "v"}, "organization_id": "acme", "report_to": "me"}
        (found,) = harness.store.enqueue([new(args=[1, "ü"], kwargs={"a": {}}, **fields)])
        assert list(harness.store.operations.browse(limit=9)) == [harness.store.get([found])[found]]
        claim(harness, 1, "q")
        assert list(harness.store.operations.browse(limit=9)) == [harness.store.get([found])[found]]

    def test_what_has_ended_is_not_shown(self, harness: Harness) -> None:
        bury(harness, "default")
        harness.store.enqueue([new()])
        settle(harness, claim(harness)[0], Success())
        assert list(harness.store.operations.browse(limit=9)) == []

    def test_what_nobody_can_read_is_left_out(self, harness: Harness) -> None:
        harness.spoil()
        (found,) = harness.store.enqueue([new()])
        assert [m.id for m in harness.store.operations.browse(limit=9)] == [found]


class TestDeadLetters:
    def test_pages_go_through_all_by_id_and_by_queue(self, harness: Harness) -> None:
        ids = bury(harness, *"ababa")
        dead = harness.store.operations.dead
        first = dead(limit=3)
        assert [m.id for m in first] + [m.id for m in dead(limit=3, after=first[-1].id)] == ids
        assert {m.args[0] for m in dead(queue="b", limit=9)} == {"b"}
        assert len(dead(queue="b", limit=9)) == 2

    def test_a_dead_letter_has_its_arguments_and_why_it_died(self, harness: Harness) -> None:
        (found,) = harness.store.enqueue(
            [new(args=[1], kwargs={"a": "ü"}, headers={"h": 1}, max_attempts=1, priority=7)]
        )
        settle(harness, claim(harness)[0], Death(failure=FAILURE))
        (message,) = harness.store.operations.dead(limit=9)
        assert (message.id, message.state, message.error) == (found, MessageState.FAILED, FAILURE)
        assert (message.args, message.kwargs, message.headers) == ([1], {"a": "ü"}, {"h": 1})
        assert (message.queue, message.priority, message.attempts, message.max_attempts) == ("default", 7, 1, 1)
        assert message.finished_at is not None

    def test_a_dropped_dead_letter_is_gone_for_good(self, harness: Harness) -> None:
        a, b = bury(harness, "default", "default")
        (waiting,) = harness.store.enqueue([new()])
        assert harness.store.operations.drop([a, waiting, uuid.uuid4()]) == {a}
        assert harness.store.operations.drop([a]) == set()
        assert harness.store.replay([a]) == set()
        assert [m.id for m in harness.store.operations.dead(limit=9)] == [b]
        assert harness.store.get([waiting])

    def test_each_is_dropped_by_one_of_many(self, harness: Harness) -> None:
        ids = bury(harness, *["default"] * 10)
        dropped = in_threads(4, lambda _: harness.store.operations.drop(ids))
        assert sorted(one for found in dropped for one in found) == ids

    @pytest.mark.capability("transactions")
    def test_a_drop_that_is_rolled_back_changes_nothing(self, harness: Harness) -> None:
        ids = bury(harness, "default")
        with transaction.atomic():
            assert harness.store.operations.drop(ids) == set(ids)
            transaction.set_rollback(True)
        assert harness.store.replay(ids) == set(ids)


class TestPurge:
    def test_waiting_messages_are_cancelled_for_a_reason_in_batches(self, harness: Harness) -> None:
        ids = harness.store.enqueue([new(report_to="me") for _ in range(4)])
        ids += harness.store.enqueue([new(report_to="me", run_after=datetime.now(UTC) + timedelta(hours=1))])
        (other,) = harness.store.enqueue([new(queue="other")])
        purge = harness.store.operations.purge
        assert [purge("default", reason="a flood", limit=3) for _ in range(3)] == [3, 2, 0]
        messages = harness.store.get([*ids, other])
        assert {messages[one].state for one in ids} == {MessageState.CANCELLED}
        assert all((error := messages[one].error) and error.message.startswith("a flood") for one in ids)
        assert messages[other].state is MessageState.WAITING
        assert {message.id for message in harness.store.take_outcomes("me", limit=9)} == set(ids)

    def test_what_runs_runs_on(self, harness: Harness) -> None:
        harness.store.enqueue([new(), new()])
        (running,) = claim(harness, 1)
        assert harness.store.operations.purge("default", reason="a flood", limit=10) == 1
        assert harness.store.get([running.message.id])[running.message.id].state is MessageState.RUNNING
        assert claim(harness) == []

    @pytest.mark.capability("keys")
    def test_a_key_ends_with_its_message(self, harness: Harness) -> None:
        (first,) = harness.store.enqueue([new(key="k", key_ttl=timedelta())])
        assert harness.store.operations.purge("default", reason="a flood", limit=10) == 1
        assert harness.store.enqueue([new(key="k")]) != [first]

    def test_a_message_is_claimed_or_purged_and_never_both(self, harness: Harness) -> None:
        ids = harness.store.enqueue([new() for _ in range(300)])

        def work(number: int) -> list[uuid.UUID] | int:
            if number % 2:
                return sum(harness.store.operations.purge("default", reason="a flood", limit=10) for _ in range(20))
            return [one.message.id for _ in range(20) for one in claim(harness, 5, worker=f"w{number}")]

        found = in_threads(4, work)
        claimed = [one for part in found if isinstance(part, list) for one in part]
        purged = sum(part for part in found if isinstance(part, int))
        states = [message.state for message in harness.store.get(ids).values()]
        assert len(set(claimed)) == len(claimed) == states.count(MessageState.RUNNING)
        assert purged == states.count(MessageState.CANCELLED)


class TestClearCompleted:
    def test_outcomes_that_were_taken_go_the_others_stay(self, harness: Harness) -> None:
        ids = harness.store.enqueue([new() for _ in range(5)])
        (untaken,) = harness.store.enqueue([new(report_to="me")])
        for one in claim(harness):
            settle(harness, one, Success())
        harness.advance(100)
        (late,) = harness.store.enqueue([new()])
        settle(harness, claim(harness)[0], Success())
        clear = harness.store.operations.clear_completed
        before = datetime.now(UTC) - timedelta(seconds=50)
        assert [clear(before=before, limit=3) for _ in range(3)] == [3, 2, 0]
        assert set(harness.store.get([*ids, untaken, late])) == {untaken, late}
        harness.store.take_outcomes("me", limit=1)
        assert clear(before=before, limit=3) == 1

    def test_what_waits_or_runs_stays(self, harness: Harness) -> None:
        ids = harness.store.enqueue([new(), new()])
        claim(harness, 1)
        harness.advance(100)
        assert harness.store.operations.clear_completed(before=datetime.now(UTC), limit=9) == 0
        assert set(harness.store.get(ids)) == set(ids)


@pytest.mark.capability("namespaces")
def test_other_namespaces_are_left_alone(harness: Harness) -> None:
    dead, _ = bury(harness, "default", "default")
    (waiting,) = harness.store.enqueue([new()])
    operations = harness.store.within("tenant").operations
    harness.advance(100)
    assert list(operations.browse(limit=9)) == []
    assert list(operations.dead(limit=9)) == []
    assert operations.drop([dead]) == set()
    assert operations.purge("default", reason="a flood", limit=9) == 0
    assert operations.clear_completed(before=datetime.now(UTC), limit=9) == 0
    assert harness.store.get([waiting])[waiting].state is MessageState.WAITING
    assert len(harness.store.operations.dead(limit=9)) == 2
