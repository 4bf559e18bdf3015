"""Entries that no operation has written stop nobody."""

from __future__ import annotations

import pytest

from pg_queue.domain import MessageState
from tests.contract.actions import claim, new
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
