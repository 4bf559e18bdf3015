"""The guarantees of `pg_queue.ports.QueueStore` among processes: in contention, killed, and with a wrong clock."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from pg_queue.domain import MessageState
from tests.contract.actions import LEASE, claim, new
from tests.contract.actors import Actor
from tests.contract.harness import Harness

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True, available_apps=["pg_queue"])]
DAY = 86400.0
Start = Callable[..., Actor]


def test_each_message_is_claimed_and_settled_once_among_four_processes(harness: Harness, actor: Start) -> None:
    actors = [actor() for _ in range(4)]
    ids = harness.store.enqueue([new(priority=1 + number % 10) for number in range(1000)])
    for number, one in enumerate(actors):
        one.begin("drain", limit=7, worker=f"p{number}")
    shares = [one.answer() for one in actors]
    assert Counter(i for share in shares for i in share) == Counter(map(str, ids))
    assert sum(bool(share) for share in shares) > 1, "no contention"
    assert {m.state for m in harness.store.get(ids).values()} == {MessageState.SUCCEEDED}
    assert harness.store.depths() == []


def test_nothing_is_lost_or_doubled_while_processes_enqueue_and_others_drain(harness: Harness, actor: Start) -> None:
    producers, consumers = [actor(), actor()], [actor(), actor()]
    for one in producers:
        one.begin("enqueue", count=300)
    for number, one in enumerate(consumers):
        one.begin("drain", limit=20, worker=f"p{number}")
    ids = [i for one in producers for i in one.answer()]
    done = [i for one in consumers for i in one.answer()]
    done += consumers[0]("drain", limit=100, worker="last")
    assert Counter(done) == Counter(ids)


def test_what_a_killed_process_held_is_executed_by_another(harness: Harness, actor: Start) -> None:
    ids = harness.store.enqueue([new() for _ in range(20)])
    doomed, heir = actor(), actor()
    held = doomed("claim", limit=8, worker="doomed")
    doomed.kill()
    assert len(heir("drain", limit=100, worker="heir")) == 12
    harness.advance(61)
    assert harness.store.expire_claims(limit=100) == 8
    assert set(heir("drain", limit=100, worker="heir")) == {c["id"] for c in held}
    messages = harness.store.get(ids)
    assert {m.state for m in messages.values()} == {MessageState.SUCCEEDED}
    assert {messages[uuid.UUID(c["id"])].attempts for c in held} == {2}


@pytest.mark.parametrize("off_by", [-DAY, DAY])
def test_a_client_with_a_wrong_clock_changes_nothing(harness: Harness, actor: Start, off_by: float) -> None:
    if not harness.has_server_clock:
        pytest.skip("client and store share the machine's clock")
    wrong = actor(clock_off_by_seconds=off_by)
    delayed = (datetime.now(UTC) + timedelta(seconds=300)).isoformat()
    wrong("enqueue", count=1, run_after=delayed)
    (enqueued,) = wrong("enqueue", count=1)
    (held,) = wrong("claim", limit=10, worker="wrong", lease=LEASE.total_seconds())
    assert held["id"] == enqueued, "due at once is due at once, and what is delayed is not due"
    left = datetime.fromisoformat(held["lease_until"]) - datetime.now(UTC)
    assert abs(left.total_seconds() - LEASE.total_seconds()) < 30
    assert wrong("expire") == 0
    assert claim(harness) == []
    harness.advance(400)
    assert wrong("expire") == 1
    assert len(claim(harness)) == 2
