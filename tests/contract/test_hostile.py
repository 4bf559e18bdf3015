"""Entries that no operation has written stop nobody."""

from __future__ import annotations

import uuid

import pytest

from pg_queue.domain import Death, MessageState, NewEvent
from tests.contract.actions import FAILURE, LEASE, claim, new, settle
from tests.contract.harness import Harness

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])


@pytest.mark.parametrize("limit", [1, 10])
def test_a_malformed_entry_is_buried_and_the_others_are_claimed(harness: Harness, limit: int) -> None:
    before = harness.store.enqueue([new(), new()])
    spoilt = harness.spoil()
    after = harness.store.enqueue([new(), new()])
    claimed = [one.message.id for _ in range(6) for one in claim(harness, limit)]
    assert claimed == [*before, *after]
    message = harness.store.get([spoilt])[spoilt]
    assert message.state is MessageState.FAILED
    assert message.error is not None
    assert message.error.type == "message.unreadable"
    (depth,) = harness.store.depths()
    assert (depth.waiting, depth.running, depth.dead) == (0, 4, 1)


def test_reading_by_id_is_not_stopped_either(harness: Harness) -> None:
    (whole,) = harness.store.enqueue([new()])
    spoilt = harness.spoil()
    found = harness.store.get([whole, spoilt])
    assert whole in found
    assert harness.store.next_due_seconds(["default"]) == 0
    assert [depth.waiting for depth in harness.store.depths()] == [2]


@pytest.mark.capability("events")
def test_an_event_that_nobody_can_read_stays_leased_and_the_others_leave(harness: Harness) -> None:
    outbox = harness.store.outbox
    spoilt, good = outbox.publish([NewEvent(topic="t", payload=1), NewEvent(topic="t", payload=2)])
    harness.spoil_event(spoilt)
    (found,) = outbox.lease(["t"], limit=10, lease=LEASE)
    assert found.id == good
    assert outbox.confirm([found]) == {good}
    assert [one.waiting for one in outbox.backlog()] == [1]


@pytest.mark.capability("operations")
def test_a_page_of_which_nothing_can_be_read_is_not_the_last(harness: Harness) -> None:
    """Who turns pages would take an empty one for the end."""
    operations = harness.store.operations
    for _ in range(3):
        harness.spoil()
    (last,) = harness.store.enqueue([new(id=uuid.UUID(int=2**128 - 1), max_attempts=1)])
    assert [one.id for one in operations.browse(limit=1)] == [last]
    (held,) = claim(harness, 10)
    settle(harness, held, Death(failure=FAILURE))
    assert [depth.dead for depth in harness.store.depths()] == [4]
    assert [one.id for one in operations.dead(limit=1)] == [last]
    assert list(operations.dead(limit=1, after=last)) == list(operations.dead(limit=0)) == []
