"""Organizations by the thousand: a claim looks at some of them, and each has its share all the same."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from pg_queue.domain import NewMessage, Settlement, Success
from pg_queue.settings import QueueSettings
from pg_queue.storage.redis import RedisStore
from tests.pg_queue.redis.conftest import make_store
from tests.services import REDIS_URL

pytestmark = pytest.mark.services("redis")
LEASE = timedelta(seconds=60)


def with_fairness(prefix: str, **fairness: object) -> RedisStore:
    return make_store(REDIS_URL, conf=QueueSettings(fairness=fairness, aging_seconds=3600), PREFIX=prefix)


def drawn(store: RedisStore, claims: int, limit: int) -> Counter[str]:
    """How often each organization was drawn; what was claimed is settled at once."""
    counts: Counter[str] = Counter()
    for _ in range(claims):
        found = store.claim(queues=["default"], limit=limit, lease=LEASE, worker="w")
        counts.update(one.message.organization_id for one in found)
        store.settle([Settlement(message_id=c.message.id, token=c.token, outcome=Success()) for c in found])
    return counts


def test_a_heavy_one_among_thousands_gets_its_share_and_no_other_is_left_out(prefix: str) -> None:
    store = with_fairness(prefix, WEIGHTS={"heavy": 400.0})
    names = [f"o{number}" for number in range(400)]
    store.enqueue([NewMessage(task="noop", organization_id=name) for name in names for _ in range(20)])
    store.enqueue([NewMessage(task="noop", organization_id="heavy") for _ in range(3000)])
    counts = drawn(store, 100, 40)
    assert counts.total() == 4000
    assert counts["heavy"] == pytest.approx(2000, abs=250)  # half, by weight; 8 deviations of single draws
    assert sum(counts[name] > 0 for name in names) > 350  # each expects 5


def test_what_the_others_do_not_use_goes_to_one_whatever_the_window(prefix: str) -> None:
    store = with_fairness(prefix)
    store.enqueue([NewMessage(task="noop", organization_id=f"o{number}") for number in range(300)])
    store.enqueue([NewMessage(task="noop", organization_id="late") for _ in range(300)])
    assert drawn(store, 1, 600) == Counter({**{f"o{number}": 1 for number in range(300)}, "late": 300})


def test_organizations_at_their_maximum_do_not_hide_the_others(prefix: str) -> None:
    store = with_fairness(prefix, MAX_RUNNING={f"o{number}": 1 for number in range(300)})
    store.enqueue([NewMessage(task="noop", organization_id=f"o{number}") for number in range(300) for _ in range(2)])
    store.enqueue([NewMessage(task="noop", organization_id="free")])
    first = store.claim(queues=["default"], limit=1000, lease=LEASE, worker="w")
    assert len(first) == 301
    assert store.claim(queues=["default"], limit=1000, lease=LEASE, worker="w") == []
    store.release([(first[0].message.id, first[0].token)])
    assert len(store.claim(queues=["default"], limit=1000, lease=LEASE, worker="w")) == 1
