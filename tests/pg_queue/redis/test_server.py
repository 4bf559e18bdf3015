"""Which servers the Redis store takes, and what becomes of it when one restarts, forgets scripts, is full or gone."""

from __future__ import annotations

import sys
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from pg_queue.domain import MessageState, NewMessage, Settled, Settlement, Success
from pg_queue.errors import Configuration, StoreUnavailable
from pg_queue.storage.redis import RedisStore
from pg_queue.storage.redis.server import unfit
from tests.pg_queue.redis.conftest import make_store
from tests.places import own_redis
from tests.services import REDIS_URL

pytestmark = pytest.mark.services("redis")
LEASE = timedelta(seconds=60)


def claim(store: RedisStore, limit: int = 10) -> list[Any]:
    return store.claim(queues=["default"], limit=limit, lease=LEASE, worker="w")


def succeed(store: RedisStore, one: Any) -> Settled:
    settlement = Settlement(message_id=one.message.id, token=one.token, outcome=Success(value=1))
    return store.settle([settlement])[one.token]


def test_a_server_in_cluster_mode_is_refused_and_told_what_would_break(tmp_path: Path) -> None:
    with (
        own_redis(tmp_path, options=["--cluster-enabled", "yes"]) as url,
        pytest.raises(Configuration, match=r"cluster_enabled:1.*one script over many keys"),
    ):
        make_store(url).enqueue([NewMessage(task="noop")])


def test_a_server_that_would_evict_messages_is_refused(tmp_path: Path) -> None:
    with (
        own_redis(tmp_path, options=["--maxmemory-policy", "allkeys-lru"]) as url,
        pytest.raises(Configuration, match=r"noeviction.*got: allkeys-lru.*deletes messages"),
    ):
        make_store(url).depths()


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"redis_version": "6.2.14"}, "Redis 7.0 or later, got: 6.2.14"),
        ({"redis_version": "7.0.0"}, None),
        ({"redis_version": "10.1.0"}, None),
        ({"redis_version": "7.4.1", "maxmemory_policy": "volatile-lru"}, None),
        ({"redis_version": "7.4.1", "maxmemory_policy": "allkeys-lfu"}, "allkeys-lfu"),
        ({"redis_version": "7.4.1", "cluster_enabled": 1}, "cluster_enabled:1"),
    ],
)
def test_what_a_server_says_of_itself_decides(facts: dict[str, Any], problem: str | None) -> None:
    found = unfit(facts)
    assert (found is None) == (problem is None)
    assert problem is None or problem in str(found)


def test_scripts_that_the_server_has_forgotten_are_sent_again(tmp_path: Path) -> None:
    with own_redis(tmp_path) as url:
        store = make_store(url)
        (before,) = store.enqueue([NewMessage(task="noop")])
        Redis.from_url(url).script_flush()
        (after,) = store.enqueue([NewMessage(task="noop")])
        assert [one.message.id for one in claim(store)] == [before, after]


def test_a_killed_server_that_appends_to_a_file_is_back_with_everything_that_it_answered(tmp_path: Path) -> None:
    with own_redis(tmp_path) as url:
        store = make_store(url)
        done, held, waiting = store.enqueue([NewMessage(task="noop", key=name) for name in ("a", "b", "c")])
        first, second = claim(store, 2)
        assert succeed(store, first) is Settled.DONE
    with pytest.raises(StoreUnavailable):
        store.depths()
    with own_redis(tmp_path, urlsplit(url).port):
        states = {message_id: message.state for message_id, message in store.get([done, held, waiting]).items()}
        assert states == {done: MessageState.SUCCEEDED, held: MessageState.RUNNING, waiting: MessageState.WAITING}
        assert succeed(store, second) is Settled.DONE
        assert store.enqueue([NewMessage(task="noop", key="a")]) == [done]
        assert [one.message.id for one in claim(store)] == [waiting]


def test_a_full_server_takes_no_messages_but_lets_what_is_there_go_on(tmp_path: Path) -> None:
    with own_redis(tmp_path) as url:
        store, client = make_store(url), Redis.from_url(url)
        store.enqueue([NewMessage(task="noop") for _ in range(3)])
        client.config_set("maxmemory", "1mb")
        with pytest.raises(StoreUnavailable, match=r"OOM|OutOfMemory"):
            store.enqueue([NewMessage(task="noop")])
        claims = claim(store)
        assert [succeed(store, one) for one in claims] == [Settled.DONE] * 3
        assert store.depths() == []
        client.config_set("maxmemory", "0")
        store.enqueue([NewMessage(task="noop")])
        assert [depth.waiting for depth in store.depths()] == [1]


def test_what_may_have_been_done_is_not_tried_again_in_silence(store: RedisStore) -> None:
    """The connection is lost after the server has done it and before it could say so."""
    store.enqueue([NewMessage(task="noop") for _ in range(9)])
    read = Connection.read_response

    def lose(connection: Connection, *arguments: Any, **options: Any) -> None:
        read(connection, *arguments, **options)
        connection.disconnect()
        raise RedisConnectionError("lost")

    with mock.patch.object(Connection, "read_response", lose), pytest.raises(StoreUnavailable):
        claim(store, 1)
    assert [depth.running for depth in store.depths()] == [1]


def test_a_server_that_does_not_answer_is_unavailable_and_its_password_is_told_nobody() -> None:
    store = make_store("redis://me:hunter2@127.0.0.1:1/0", SOCKET_TIMEOUT_SECONDS=2)
    with pytest.raises(StoreUnavailable) as caught:
        store.enqueue([NewMessage(task="noop")])
    assert "127.0.0.1:1/0" in str(caught.value)
    assert "hunter2" not in str(caught.value) + store.place


def test_a_wrong_address_is_refused_without_its_password() -> None:
    with pytest.raises(Configuration, match=r"'URL'.*redis://127.0.0.1:6379/0") as caught:
        make_store("http://me:hunter2@127.0.0.1/0")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"PREFIXES": "x"}, "PREFIX, SOCKET_TIMEOUT_SECONDS, got: 'PREFIXES'"),
        ({"PREFIX": ""}, "PREFIX"),
        ({"PREFIX": 3}, "PREFIX"),
        ({"SOCKET_TIMEOUT_SECONDS": 0}, "SOCKET_TIMEOUT_SECONDS"),
        ({"SOCKET_TIMEOUT_SECONDS": float("nan")}, "SOCKET_TIMEOUT_SECONDS"),
        ({"SOCKET_TIMEOUT_SECONDS": True}, "SOCKET_TIMEOUT_SECONDS"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(Configuration, match=said):
        make_store("redis://127.0.0.1:6379/0", **options)


def test_without_redis_py_the_refusal_says_what_to_install() -> None:
    with mock.patch.dict(sys.modules, {"redis": None}), pytest.raises(Configuration) as caught:
        make_store("redis://127.0.0.1:6379/0")
    assert "pip install 'django-downbeat[redis]'" in str(caught.value)


def test_two_prefixes_on_one_server_see_nothing_of_each_other(store: RedisStore, prefix: str) -> None:
    other = make_store(REDIS_URL, PREFIX=f"{prefix}:other")
    (message_id,) = store.enqueue([NewMessage(task="noop", id=uuid.uuid4())])
    assert other.get([message_id]) == {}
    assert claim(other) == []
