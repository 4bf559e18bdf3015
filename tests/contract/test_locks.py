"""The guarantees of `pg_queue.ports.Locks`, by behaviour. Each store that has them passes all of it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction

from tests.contract.actions import in_threads
from tests.contract.actors import Actor
from tests.contract.harness import Harness

pytestmark = [
    pytest.mark.django_db(transaction=True, available_apps=["pg_queue"]),
    pytest.mark.capability("locks"),
]
MINUTE = timedelta(seconds=60)


def acquire(harness: Harness, name: str = "import") -> uuid.UUID | None:
    return harness.store.locks.acquire(name, ttl=MINUTE)


def taken(harness: Harness, name: str = "import") -> uuid.UUID:
    owner = acquire(harness, name)
    assert owner is not None
    return owner


def test_a_lock_has_one_owner_until_it_is_released(harness: Harness) -> None:
    owner = taken(harness)
    assert acquire(harness) is None
    assert acquire(harness, "other") is not None
    assert harness.store.locks.release("import", owner)
    assert taken(harness) != owner


def test_a_lock_that_has_expired_is_free(harness: Harness) -> None:
    first = taken(harness)
    harness.advance(59)
    assert acquire(harness) is None
    harness.advance(2)
    assert taken(harness) != first


def test_extending_holds_it_from_now_on(harness: Harness) -> None:
    owner = taken(harness)
    harness.advance(50)
    assert harness.store.locks.extend("import", owner, ttl=MINUTE)
    harness.advance(50)
    assert acquire(harness) is None
    harness.advance(11)
    assert acquire(harness) is not None


def test_who_no_longer_owns_it_changes_nothing(harness: Harness) -> None:
    late = taken(harness)
    harness.advance(61)
    assert not harness.store.locks.extend("import", late, ttl=MINUTE), "it has expired"
    assert not harness.store.locks.release("import", late)
    owner = taken(harness)
    for stranger in (late, uuid.uuid4()):
        assert not harness.store.locks.extend("import", stranger, ttl=MINUTE)
        assert not harness.store.locks.release("import", stranger)
    assert acquire(harness) is None
    assert harness.store.locks.release("import", owner)
    assert not harness.store.locks.release("import", owner)


@pytest.mark.capability("transactions")
def test_what_is_rolled_back_was_not_taken(harness: Harness) -> None:
    with transaction.atomic():
        taken(harness)
        transaction.set_rollback(True)
    assert acquire(harness) is not None


@pytest.mark.parametrize("lapsed", [False, True])
def test_of_threads_that_race_for_it_one_gets_it(harness: Harness, lapsed: bool) -> None:
    for number in range(10):
        name = f"lock-{number}"
        if lapsed:
            taken(harness, name)
            harness.advance(61)
        owners = [owner for owner in in_threads(8, lambda _, name=name: acquire(harness, name)) if owner]
        assert len(owners) == 1
        assert harness.store.locks.release(name, owners[0])


def test_nobody_else_is_within_while_a_thread_holds_it(harness: Harness) -> None:
    within = threading.Semaphore(1)

    def work(_: int) -> int:
        entered = 0
        while entered < 5:
            if (owner := acquire(harness)) is not None:
                assert within.acquire(blocking=False), "two owners at once"
                entered += 1
                within.release()
                assert harness.store.locks.release("import", owner)
        return entered

    assert in_threads(6, work) == [5] * 6


@pytest.mark.processes
def test_of_processes_that_race_for_them_each_lock_goes_to_one(harness: Harness, actor: Callable[..., Actor]) -> None:
    actors = [actor() for _ in range(2)]
    names = [f"lock-{number}" for number in range(50)]
    for one in actors:
        one.begin("acquire", names=names, ttl=60)
    owned = [name for one in actors for name in one.answer()]
    assert sorted(owned) == sorted(names)


@pytest.mark.processes
def test_a_killed_owner_holds_it_until_it_expires(harness: Harness, actor: Callable[..., Actor]) -> None:
    doomed = actor()
    assert doomed("acquire", names=["import"], ttl=60) == ["import"]
    doomed.kill()
    assert acquire(harness) is None
    harness.advance(61)
    assert acquire(harness) is not None
