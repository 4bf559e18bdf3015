"""A listener hears of what becomes due in its queues once that is committed, and nothing of other queues."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import pytest
from django.db import transaction

from pg_queue.ports import Listener
from tests.contract.actions import LEASE, PATIENCE_SECONDS, claim, hears, in_threads, is_readable, new, pair
from tests.contract.harness import Harness

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.capability("wake"),
]

SILENCE_SECONDS = 0.3
"""How long a test waits for what must not come."""


@pytest.fixture
def listener(harness: Harness) -> Iterator[Listener]:
    """One that listens to the queues `default` and `b`."""
    found = harness.store.listen(["default", "b"])
    assert found.connect()
    yield found
    found.close()


def test_an_enqueue_is_heard_within_milliseconds(harness: Harness, listener: Listener) -> None:
    waits = []
    for _ in range(9):
        harness.store.enqueue([new()])
        committed_at = time.perf_counter()
        assert is_readable(listener, PATIENCE_SECONDS)
        waits.append(time.perf_counter() - committed_at)
        assert listener.hear()
    assert statistics.median(waits) < 0.05, waits


@pytest.mark.capability("transactions")
def test_an_enqueue_is_not_heard_before_its_transaction_commits(harness: Harness, listener: Listener) -> None:
    with transaction.atomic():
        harness.store.enqueue([new()])
        assert not hears(listener, SILENCE_SECONDS)
    assert hears(listener)


@pytest.mark.capability("transactions")
def test_an_enqueue_that_is_rolled_back_is_not_heard(harness: Harness, listener: Listener) -> None:
    with transaction.atomic():
        harness.store.enqueue([new()])
        transaction.set_rollback(True)
    assert not hears(listener, SILENCE_SECONDS)


def test_each_way_in_is_heard(harness: Harness, listener: Listener) -> None:
    harness.store.enqueue([new(queue="b")])
    assert hears(listener)
    harness.store.enqueue([new(queue="other"), new(queue="b")])
    assert hears(listener)
    (one,) = claim(harness, 1, "b")
    harness.store.release([pair(one)])
    assert hears(listener)
    (one,) = claim(harness, 1, "b")
    harness.advance(61)
    harness.store.expire_claims(limit=10)
    assert hears(listener)


@pytest.mark.capability("keys")
def test_an_enqueue_with_a_key_is_heard(harness: Harness, listener: Listener) -> None:
    harness.store.enqueue([new(key="k")])
    assert hears(listener)


def test_other_queues_are_not_heard(harness: Harness, listener: Listener) -> None:
    harness.store.enqueue([new(queue="other")])
    harness.store.enqueue([new(queue="defaul"), new(queue="default2")])
    assert not hears(listener, SILENCE_SECONDS)


@pytest.mark.capability("namespaces")
def test_another_namespace_is_not_heard(harness: Harness, listener: Listener) -> None:
    tenant = harness.store.within("tenant")
    of_tenant = tenant.listen(["default"])
    of_tenant.connect()
    try:
        tenant.enqueue([new()])
        assert hears(of_tenant)
        assert tenant.claim(queues=["default"], limit=1, lease=LEASE, worker="w")  # some hear while there is something
        assert not hears(listener, SILENCE_SECONDS)
        harness.store.enqueue([new()])
        assert hears(listener)
        assert not hears(of_tenant, SILENCE_SECONDS)
    finally:
        of_tenant.close()


def test_what_other_threads_enqueue_is_heard(harness: Harness, listener: Listener) -> None:
    in_threads(2, lambda _: harness.store.enqueue([new()]))
    assert hears(listener)


def test_a_closed_listener_has_no_descriptor_and_can_connect_again(harness: Harness) -> None:
    listener = harness.store.listen(["default"])
    assert listener.fileno() is None
    assert listener.hear() is False
    assert listener.connect()
    assert not listener.connect()
    listener.close()
    assert listener.fileno() is None
    assert listener.hear() is False
