"""What a store cannot do is refused at once and by name, and nothing is done."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import pytest

from pg_queue.domain import Capability, NewMessage
from pg_queue.errors import CapabilityMissing
from pg_queue.settings import StoreSettings
from pg_queue.storage.capable import Capable

U = NewMessage(task="u")


class Bare(Capable):
    """A store without any capability."""

    def enqueue(self, messages: Sequence[NewMessage]) -> list[uuid.UUID]:
        self._check_demands(messages)
        return [uuid.uuid4() for _ in messages]


@pytest.fixture
def bare() -> Bare:
    return Bare(StoreSettings(alias="bare"))


@pytest.mark.parametrize(
    ("capability", "ask"),
    [
        (Capability.BARRIERS, lambda store: store.barriers),
        (Capability.EVENTS, lambda store: store.outbox),
        (Capability.SWITCHES, lambda store: store.switches),
        (Capability.LOCKS, lambda store: store.locks),
        (Capability.LIMITS, lambda store: store.limits),
        (Capability.OPERATIONS, lambda store: store.operations),
        (Capability.NAMESPACES, lambda store: store.within("tenant")),
        (Capability.WAKE, lambda store: store.listen(["default"])),
        (Capability.CANCEL, lambda store: store.cancel([uuid.uuid4()])),
        (Capability.KEYS, lambda store: store.enqueue([NewMessage(task="t", key="k")])),
        (
            Capability.CONTINUATIONS,
            lambda store: store.enqueue([NewMessage(task="t", on_success=[U])]),
        ),
        (
            Capability.CONTINUATIONS,
            lambda store: store.enqueue([NewMessage(task="t", on_failure=[U])]),
        ),
    ],
)
def test_a_missing_capability_is_refused_by_name(
    bare: Bare, capability: Capability, ask: Callable[[Bare], object]
) -> None:
    with pytest.raises(CapabilityMissing, match=f"expected a store that has '{capability}', got: the store 'bare'"):
        ask(bare)


def test_a_namespace_that_cannot_be_kept_apart_is_refused_when_the_store_is_made() -> None:
    with pytest.raises(CapabilityMissing, match="namespaces"):
        Bare(StoreSettings(alias="bare", namespace="tenant"))


def test_a_message_that_demands_nothing_is_taken(bare: Bare) -> None:
    assert len(bare.enqueue([NewMessage(task="t"), NewMessage(task="t")])) == 2
