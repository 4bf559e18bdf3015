"""Stores in Redis, without a database: under a prefix of their own on the shared server, or on one of their own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from pg_queue.settings import QueueSettings, StoreSettings
from pg_queue.storage.redis import RedisStore
from tests.services import REDIS_URL


def make_store(url: str, *, conf: QueueSettings | None = None, **options: Any) -> RedisStore:
    """A store on this server."""
    place = StoreSettings(alias="here", backend="redis", url=url, options=options)
    return RedisStore(conf or QueueSettings(), place)


@pytest.fixture
def prefix() -> Iterator[str]:
    """A prefix that nobody else has; its keys go with the test."""
    name = f"downbeat-test-{uuid.uuid4().hex}"
    yield name
    client: Redis = Redis.from_url(REDIS_URL)
    for key in client.scan_iter(f"{name}:*", count=1000):
        client.delete(key)


@pytest.fixture
def client() -> Iterator[Redis]:
    """A plain client of the shared server."""
    found: Redis = Redis.from_url(REDIS_URL, decode_responses=True)
    yield found
    found.close()


@pytest.fixture
def store(prefix: str) -> RedisStore:
    """An empty store on the shared server."""
    return make_store(REDIS_URL, PREFIX=prefix)
