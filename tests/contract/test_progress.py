"""What executions say of themselves, by behaviour. Each store passes all of it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from pg_queue.domain import Death, Message, Progress, Retry, Success
from tests.contract.actions import FAILURE, LEASE, claim, new, pair, settle
from tests.contract.harness import Harness

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])
HALF = Progress(done=5, total=10, stage="load \u2713")


def shown(harness: Harness, message_id: uuid.UUID) -> Message:
    return harness.store.get([message_id])[message_id]


def test_the_last_word_of_what_runs_is_shown_with_its_instant(harness: Harness) -> None:
    first, second = harness.store.enqueue([new(), new()])
    claims = claim(harness)
    assert shown(harness, first).progress is None
    tokens = {one.token for one in claims}
    assert harness.store.note_progress([(*pair(one), Progress(done=1, total=10)) for one in claims]) == tokens
    assert harness.store.note_progress([(*pair(claims[0]), HALF)]) == {claims[0].token}
    found = shown(harness, first).progress
    assert found is not None
    assert (found.done, found.total, found.stage, found.fraction) == (5, 10, "load \u2713", 0.5)
    assert found.at is not None
    assert abs(found.at - datetime.now(UTC)) < timedelta(seconds=60)
    other = shown(harness, second).progress
    assert other is not None
    assert (other.done, other.stage) == (1, "")


def test_nothing_is_noted_under_a_token_that_does_not_hold_and_nothing_rises_by_it(harness: Harness) -> None:
    ids = harness.store.enqueue([new() for _ in range(5)])
    done, dead, cancelled, gone, lost = claim(harness)
    settle(harness, done, Success(value=1))
    settle(harness, dead, Death(failure=FAILURE))
    harness.store.cancel([cancelled.message.id])
    settle(harness, gone, Success(keep=False))
    harness.store.release([pair(lost)])
    (held,) = claim(harness, worker="w2")
    before, depths = harness.store.get(ids), harness.store.depths()
    stale = [(*pair(one), HALF) for one in (done, dead, cancelled, gone, lost)]
    assert harness.store.note_progress([*stale, (uuid.uuid4(), uuid.uuid4(), HALF)]) == set()
    assert harness.store.get(ids) == before
    assert harness.store.depths() == depths
    assert harness.store.note_progress([*stale, (*pair(held), HALF)]) == {held.token}
    assert harness.store.note_progress([]) == set()


@pytest.mark.parametrize("outcome", [Success(value=1), Death(failure=FAILURE)])
def test_it_is_gone_with_the_messages_end(harness: Harness, outcome: Success | Death) -> None:
    (message_id,) = harness.store.enqueue([new()])
    (one,) = claim(harness)
    harness.store.note_progress([(*pair(one), HALF)])
    settle(harness, one, outcome)
    assert shown(harness, message_id).progress is None


def test_while_it_waits_to_be_tried_again_it_tells_where_it_failed_and_the_next_execution_begins_anew(
    harness: Harness,
) -> None:
    (message_id,) = harness.store.enqueue([new()])
    (one,) = claim(harness)
    harness.store.note_progress([(*pair(one), HALF)])
    settle(harness, one, Retry(failure=FAILURE, delay=timedelta(seconds=30)))
    found = shown(harness, message_id).progress
    assert found is not None
    assert found.stage == HALF.stage
    harness.advance(31)
    (again,) = claim(harness)
    assert (again.message.progress, shown(harness, message_id).progress) == (None, None)
    assert harness.store.renew([pair(again)], lease=LEASE) == {again.token}


@pytest.mark.capability("namespaces")
def test_a_tenants_progress_is_noted_whoever_the_store_is_seen_from_by_its_token_alone(harness: Harness) -> None:
    tenant = harness.store.within("tenant")
    (message_id,) = tenant.enqueue([new()])
    (one,) = tenant.claim(queues=["default"], limit=1, lease=LEASE, worker="w")
    assert tenant.note_progress([(*pair(one), HALF)]) == {one.token}
    assert tenant.get([message_id])[message_id].progress is not None
    assert harness.store.get([message_id]) == {}
