"""Ten thousand operations at random, fewer on a stand-in: the store's counts and states are those of the model."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pg_queue.domain import Capability, Death, MessageState, Retry, Settled, Settlement, Success
from tests.contract.actions import FAILURE, new
from tests.contract.harness import Harness
from tests.contract.model import RUNNING, WAITING, Entry, Model
from tests.contract.mongodb_harness import IS_STAND_IN

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
]

OPERATIONS, LOOK_EVERY = 10_000, 5
# No sum of the others is a multiple of the step, so nothing is ever due at the very instant at which it is looked at.
STEP, DELAY, LEASE = 400.0, 1000.0, 700.0
QUEUES = ("a", "b")

messages = st.builds(
    new,
    queue=st.sampled_from(QUEUES),
    priority=st.sampled_from([1, 5, 10]),
    organization_id=st.sampled_from(["", "acme", "zeta"]),
    max_attempts=st.integers(1, 3),
)
picks = st.integers(0, 2**16)


class QueueMachine(RuleBasedStateMachine):
    """Every operation of a store, on the store and on the model."""

    operations = 0

    def __init__(self, harness: Harness) -> None:
        super().__init__()
        harness.clear()
        self.harness, self.store, self.model = harness, harness.store, Model()

    def can(self, capability: Capability) -> bool:
        return capability in self.store.capabilities

    def pick(self, number: int, *states: MessageState) -> list[Entry]:
        """Some of those in these states, at least one where there is any.

        No precondition asks for one: which message a store claims may be a matter of chance, and what is drawn must be
        the same each time.
        """
        found = self.model.of(*states)
        return [e for at, e in enumerate(found) if at == number % len(found) or number >> (at % 16) & 1]

    @rule(given=st.lists(messages, min_size=1, max_size=6), is_delayed=st.booleans())
    def enqueue(self, given: list[Any], is_delayed: bool) -> None:
        delay = DELAY if is_delayed else 0.0
        due = datetime.now(UTC) + timedelta(seconds=DELAY) if is_delayed else None
        given = [replace(message, run_after=due) for message in given]
        self.model.add(given, self.store.enqueue(given), delay=delay)

    @rule(limit=st.integers(1, 8), queues=st.permutations(QUEUES), count=st.integers(1, 2))
    def claim(self, limit: int, queues: list[str], count: int) -> None:
        asked = queues[:count]
        due = self.model.due(asked)
        claims = self.store.claim(queues=asked, limit=limit, lease=timedelta(seconds=LEASE), worker="w")
        claimed = [self.model.entries[c.message.id] for c in claims]
        assert len(claims) == len(set(claimed)) == min(limit, len(due))
        assert set(claimed) <= set(due)
        assert self.model.overtaken(claimed, due) == []
        self.model.claimed(claims, lease=LEASE)

    @rule(
        number=picks,
        outcomes=st.lists(st.sampled_from(["success", "traceless", "retry", "death"]), min_size=3, max_size=3),
    )
    def settle(self, number: int, outcomes: list[str]) -> None:
        entries = self.pick(number, RUNNING)
        chosen = {e: outcomes[at % 3] for at, e in enumerate(entries)}
        made: dict[str, Any] = {
            "success": Success(value=1),
            "traceless": Success(value=1, keep=False),
            "retry": Retry(failure=FAILURE, delay=timedelta(seconds=DELAY)),
            "death": Death(failure=FAILURE),
        }
        answers = self.store.settle(
            [Settlement(message_id=e.id, token=_token(e), outcome=made[outcome]) for e, outcome in chosen.items()]
        )
        for entry, outcome in chosen.items():
            assert answers[_token(entry)] is self.apply(entry, outcome)

    def apply(self, entry: Entry, outcome: str) -> Settled:
        if outcome in ("success", "traceless"):
            entry.is_forgotten = outcome == "traceless"
            self.model.end(entry, MessageState.SUCCEEDED)
            return Settled.DONE
        if outcome == "retry" and entry.attempts < entry.max_attempts:
            self.model.wait(entry, delay=DELAY)
            return Settled.RETRYING
        self.model.end(entry, MessageState.FAILED)
        return Settled.DEAD

    @rule(number=picks)
    def settle_what_is_not_held(self, number: int) -> None:
        if not self.model.entries:
            return
        entry = list(self.model.entries.values())[number % len(self.model.entries)]
        stale = Settlement(message_id=entry.id, token=uuid.uuid4(), outcome=Success(value="stale"))
        assert self.store.settle([stale]) == {stale.token: Settled.LOST}

    @rule(number=picks)
    def release(self, number: int) -> None:
        entries = self.pick(number, RUNNING)
        tokens = {_token(e) for e in entries}
        assert self.store.release([(e.id, _token(e)) for e in entries]) == tokens
        for entry in entries:
            entry.attempts -= 1
            self.model.wait(entry)

    @rule(number=picks)
    def renew(self, number: int) -> None:
        entries = self.pick(number, RUNNING)
        tokens = {_token(e) for e in entries}
        assert self.store.renew([(e.id, _token(e)) for e in entries], lease=timedelta(seconds=LEASE)) == tokens
        for entry in entries:
            entry.lease_until = self.model.now + LEASE

    @rule()
    def let_time_pass(self) -> None:
        self.harness.advance(STEP)
        self.model.now += STEP

    @rule()
    def expire(self) -> None:
        expired = [e for e in self.model.of(RUNNING) if e.lease_until <= self.model.now]
        assert self.store.expire_claims(limit=100) == len(expired)
        for entry in expired:
            if entry.attempts < entry.max_attempts:
                self.model.wait(entry)
            else:
                self.model.end(entry, MessageState.FAILED)

    @precondition(lambda self: self.can(Capability.CANCEL))
    @rule(number=picks)
    def cancel(self, number: int) -> None:
        entries = self.pick(number, *MessageState)
        live = [e for e in entries if e.state in (WAITING, RUNNING)]
        assert self.store.cancel([e.id for e in entries]) == {e.id for e in live}
        for entry in live:
            self.model.end(entry, MessageState.CANCELLED)

    @rule(number=picks)
    def replay(self, number: int) -> None:
        entries = self.pick(number, MessageState.FAILED)
        assert self.store.replay([e.id for e in entries]) == {e.id for e in entries}
        for entry in entries:
            self.model.rise(entry)

    @precondition(lambda self: self.can(Capability.SWITCHES))
    @rule(queue=st.sampled_from(QUEUES), is_on=st.booleans())
    def switch(self, queue: str, is_on: bool) -> None:
        self.store.switches.turn(queue, is_on=is_on, by="test")
        (self.model.off.discard if is_on else self.model.off.add)(queue)

    @precondition(lambda self: self.can(Capability.OPERATIONS))
    @rule(queue=st.sampled_from(QUEUES))
    def purge(self, queue: str) -> None:
        waiting = [e for e in self.model.of(WAITING) if e.queue == queue]
        assert self.store.operations.purge(queue, reason="test", limit=1000) == len(waiting)
        for entry in waiting:
            self.model.end(entry, MessageState.CANCELLED)

    @invariant()
    def counts_are_true(self) -> None:
        type(self).operations += 1
        found = {d.queue: (d.waiting, d.delayed, d.running, d.dead) for d in self.store.depths()}
        assert {queue: counts for queue, counts in found.items() if any(counts)} == self.model.depths()

    @invariant()
    def states_are_true(self) -> None:
        """Of each message: that costs more than the counts, so not after each operation."""
        if type(self).operations % LOOK_EVERY == 0:
            self.compare_states()

    def teardown(self) -> None:
        self.compare_states()

    def compare_states(self) -> None:
        stored = self.store.get(self.model.entries)
        assert {i: (m.state, m.attempts) for i, m in stored.items()} == {
            e.id: (e.state, e.attempts) for e in self.model.entries.values() if not e.is_forgotten
        }

    @invariant()
    def the_next_due_is_true(self) -> None:
        seconds = self.store.next_due_seconds(QUEUES)
        waiting = [e.due_at - self.model.now for e in self.model.of(WAITING) if e.queue not in self.model.off]
        if not waiting:
            assert seconds is None
        else:
            assert seconds == pytest.approx(max(0.0, min(waiting)), abs=30)


def _token(entry: Entry) -> uuid.UUID:
    assert entry.token is not None
    return entry.token


@pytest.fixture
def machine(harness: Harness) -> Callable[[], QueueMachine]:
    return lambda: QueueMachine(harness)


def test_counts_and_states_are_true_after_thousands_of_random_operations(
    machine: Callable[[], QueueMachine],
    record_property: Callable[[str, object], None],
    request: pytest.FixtureRequest,
) -> None:
    on_stand_in = request.node.callspec.params["harness"] == "mongodb" and IS_STAND_IN
    wanted = OPERATIONS // 10 if on_stand_in else OPERATIONS
    QueueMachine.operations = 0
    while QueueMachine.operations < wanted:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=60,
                stateful_step_count=50,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    record_property("operations held against the model", QueueMachine.operations)
