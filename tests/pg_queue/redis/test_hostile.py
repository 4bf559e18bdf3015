"""What somebody has put among the keys by hand stops nobody, and no operation is done by half because of it."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from redis import Redis

from pg_queue.domain import MessageState, NewEvent, NewMessage, Settled, Settlement, Success
from pg_queue.errors import InvalidMessage
from pg_queue.storage.redis import RedisStore

pytestmark = pytest.mark.services("redis")
LEASE = timedelta(seconds=60)


def claimed(store: RedisStore, limit: int = 10) -> list[uuid.UUID]:
    return [c.message.id for c in store.claim(queues=["default"], limit=limit, lease=LEASE, worker="w")]


def add(store: RedisStore, count: int) -> list[uuid.UUID]:
    return store.enqueue([NewMessage(task="noop") for _ in range(count)])


@pytest.mark.parametrize("limit", [1, 10])
def test_a_place_in_line_without_a_message_is_skipped_and_removed(
    store: RedisStore, client: Redis, prefix: str, limit: int
) -> None:
    before, gone, after = add(store, 3)
    client.delete(f"{prefix}:message:{gone.hex}")
    client.zadd(f"{prefix}:waiting:|default|5|", {"nonsense": 1})
    assert [i for _ in range(3) for i in claimed(store, limit)] == [before, after]
    assert [depth.waiting for depth in store.depths()] == [0]


def test_a_message_that_stands_in_two_lines_is_claimed_from_its_own_and_counted_once(
    store: RedisStore, client: Redis, prefix: str
) -> None:
    first, second = store.enqueue([NewMessage(task="noop", queue="a"), NewMessage(task="noop", queue="b")])
    ((member, due),) = client.zrange(f"{prefix}:waiting:|a|5|", 0, -1, withscores=True)
    client.zadd(f"{prefix}:waiting:|b|5|", {member: due})
    claims = store.claim(queues=["b", "a"], limit=9, lease=LEASE, worker="w")
    assert [one.message.id for one in claims] == [second, first]
    settlements = [Settlement(message_id=c.message.id, token=c.token, outcome=Success()) for c in claims]
    assert set(store.settle(settlements).values()) == {Settled.DONE}
    assert store.depths() == []


@pytest.mark.parametrize("field", ["attempts", "priority", "run_after", "sequence"])
@pytest.mark.parametrize("value", ["nan", "-1", "9" * 40, "", "many"])
def test_a_message_with_a_number_that_is_none_is_buried(
    store: RedisStore, client: Redis, prefix: str, field: str, value: str
) -> None:
    spoilt, whole = add(store, 2)
    client.hset(f"{prefix}:message:{spoilt.hex}", field, value)
    assert claimed(store) == [whole]
    message = store.get([spoilt])[spoilt]
    assert message.state is MessageState.FAILED
    assert message.error is not None
    assert message.error.type == "message.unreadable"
    (depth,) = store.depths()
    assert (depth.waiting, depth.running, depth.dead) == (0, 1, 1)


def test_a_message_of_another_type_is_moved_aside_and_buried(store: RedisStore, client: Redis, prefix: str) -> None:
    spoilt, whole = add(store, 2)
    client.delete(f"{prefix}:message:{spoilt.hex}")
    client.set(f"{prefix}:message:{spoilt.hex}", "mine")
    assert claimed(store) == [whole]
    assert client.get(f"{prefix}:broken:{prefix}:message:{spoilt.hex}") == "mine"
    assert store.operations.dead(limit=9)[0].id == spoilt
    assert store.operations.drop([spoilt]) == {spoilt}


@pytest.mark.parametrize(
    "name", ["waiting:|default|5|", "organizations:|default|5", "live:|default", "queues:", "sequence:", "leases:"]
)
def test_a_structure_of_another_type_is_moved_aside_and_everything_goes_on(
    store: RedisStore, client: Redis, prefix: str, name: str
) -> None:
    client.lpush(f"{prefix}:{name}", "mine")
    ids = add(store, 3)
    assert claimed(store) == ids
    assert client.lrange(f"{prefix}:broken:{prefix}:{name}", 0, -1) == ["mine"]


def test_settling_is_whole_where_a_structure_was_spoilt_meanwhile(
    store: RedisStore, client: Redis, prefix: str
) -> None:
    store.enqueue([NewMessage(task="noop", key="k", report_to="me", organization_id="acme")])
    (one,) = store.claim(queues=["default"], limit=1, lease=LEASE, worker="w")
    for name in ("reports:|me", "running:|default", "held:|acme", "keys:", "leases:"):
        client.delete(f"{prefix}:{name}")
        client.set(f"{prefix}:{name}", "mine")
    settlement = Settlement(message_id=one.message.id, token=one.token, outcome=Success(value=1))
    assert store.settle([settlement]) == {one.token: Settled.DONE}
    assert [m.id for m in store.take_outcomes("me", limit=9)] == [one.message.id]


def test_malformed_switches_events_barriers_and_workers_are_left_alone(
    store: RedisStore, client: Redis, prefix: str
) -> None:
    client.hset(f"{prefix}:switches:", mapping={"default": "nonsense", "other": "0x"})
    (event,) = store.outbox.publish([NewEvent(topic="t", payload=1)])
    client.zadd(f"{prefix}:relay:|t", {"nonsense": 1})
    barrier = store.barriers.create([NewMessage(task="noop")])
    client.hset(f"{prefix}:barrier:{barrier.id.hex}", "state", "odd")
    client.zadd(f"{prefix}:workers:", {"nobody": 1})
    assert store.switches.list() == []
    assert [e.id for e in store.outbox.lease(["t"], limit=9, lease=LEASE)] == [event]
    assert store.barriers.get([barrier.id]) == {}
    assert store.workers.list() == []
    assert claimed(store) == barrier.member_ids


def test_too_many_continuations_inside_each_other_are_refused_before_anything_is_stored(store: RedisStore) -> None:
    message = NewMessage(task="noop")
    for _ in range(101):
        message = NewMessage(task="noop", on_success=[message])
    with pytest.raises(InvalidMessage, match="on_success"):
        store.enqueue([NewMessage(task="noop"), message])
    assert store.depths() == []


def test_json_inside_a_message_comes_back_as_it_was(store: RedisStore) -> None:
    odd = {"none": None, "lists": [[], {}, [{}]], "big": 2**70, "small": 1e-300, "text": '"\\ /ü\u2028', "true": True}
    first = NewMessage(task="noop", on_success=[NewMessage(task="noop", args=[odd], kwargs=odd, headers=odd)])
    store.enqueue([first])
    (one,) = store.claim(queues=["default"], limit=1, lease=LEASE, worker="w")
    store.settle([Settlement(message_id=one.message.id, token=one.token, outcome=Success(value=odd))])
    assert store.get([one.message.id])[one.message.id].result == odd
    (two,) = store.claim(queues=["default"], limit=1, lease=LEASE, worker="w")
    assert (two.message.args, two.message.kwargs, two.message.headers) == ([odd], odd, odd)
