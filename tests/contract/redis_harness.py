"""The Redis store under test: a prefix of its own on a shared server."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import psutil
from django.db import connection
from django.test import override_settings
from redis import Redis
from redis.connection import Connection

from pg_queue.domain import NewMessage
from pg_queue.errors import StoreUnavailable
from pg_queue.ports import QueueStore
from pg_queue.storage import store
from tests.processes import child_environment, database_url
from tests.services import REDIS_URL

PREFIX = f"downbeat-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"

ADVANCE = """
local moved = {run_after=1, enqueued_at=1, started_at=1, finished_at=1, expires_at=1, lease_until=1, created_at=1,
    ended_at=1, heartbeat_at=1, stopped_at=1, full_at=1}
local by_id = {live=1, running=1, letters=1}
local by = ARGV[2] * 1000000
for _, name in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
    local kind = redis.call('TYPE', name).ok
    if kind == 'zset' and not by_id[name:sub(#ARGV[1] + 2):match('^[^:]+')] then
        local members = redis.call('ZRANGE', name, 0, -1)
        for _, member in ipairs(members) do redis.call('ZINCRBY', name, -by, member) end
    elseif kind == 'hash' then
        local flat = redis.call('HGETALL', name)
        for at = 1, #flat, 2 do
            if moved[flat[at]] and tonumber(flat[at + 1]) then
                redis.call('HSET', name, flat[at], string.format('%.0f', flat[at + 1] - by))
            end
        end
    end
end
"""
"""Every stored instant moves into the past: the same as the clock moving on."""


class RedisHarness:
    """See `tests.contract.harness.Harness`."""

    services = ("redis",)
    failures = (StoreUnavailable,)
    has_server_clock = True
    has_one_writer = False
    cut_points = ("request",)

    def __init__(self, url: str = REDIS_URL) -> None:
        self._client: Redis = Redis.from_url(url, decode_responses=True)
        self._stores: dict[str, Any] = {"default": {"BACKEND": "redis", "URL": url, "OPTIONS": {"PREFIX": PREFIX}}}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """See the protocol."""
        sweep(self._client)
        with override_settings(PG_QUEUE={"STORES": self._stores}):
            try:
                yield
            finally:
                self.clear()
                self._client.close()

    @property
    def store(self) -> QueueStore:
        """See the protocol."""
        return store()

    def environment(self) -> dict[str, str]:
        """See the protocol."""
        own = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_PG_QUEUE": json.dumps({"STORES": self._stores})}
        migrated = database_url(os.environ["DATABASE_URL"], connection.settings_dict["NAME"])
        return child_environment(migrated) | own

    def spoil(self) -> uuid.UUID:
        """A number of more digits than Python converts."""
        (message_id,) = self.store.enqueue([NewMessage(task="noop")])
        self._client.set(f"{PREFIX}:body:{message_id.hex}", f"[[{'9' * 5000}],{{}}]")
        return message_id

    def spoil_event(self, event_id: uuid.UUID) -> None:
        """A number of more digits than Python converts."""
        self._client.hset(f"{PREFIX}:event:{event_id.hex}", "payload", f"[{'9' * 5000}]")

    def clear(self) -> None:
        """See the protocol."""
        delete(self._client, PREFIX)

    def advance(self, seconds: float) -> None:
        """See the protocol."""
        self._client.eval(ADVANCE, 0, PREFIX, seconds)

    @contextmanager
    def cut_at(self, point: str) -> Iterator[None]:
        """The connection is cut when half of the request has been sent."""

        def send_half(connection: Connection, command: Any, check_health: bool = True) -> None:
            whole = b"".join(command if isinstance(command, list) else [command])
            connection._sock.sendall(whole[: len(whole) // 2])
            connection.disconnect()
            raise ConnectionError("cut off")

        with mock.patch.object(Connection, "send_packed_command", send_half):
            yield


def delete(client: Redis, prefix: str) -> None:
    """Delete all keys of one prefix."""
    names = list(client.scan_iter(f"{prefix}:*", count=10_000))
    for at in range(0, len(names), 1000):
        client.unlink(*names[at : at + 1000])


_swept: set[int] = set()


def sweep(client: Redis) -> None:
    """Once per process: delete what killed runs have left. Their prefixes hold their pids, valid on this machine."""
    if os.getpid() in _swept or urlsplit(REDIS_URL).hostname not in {"127.0.0.1", "localhost", "::1"}:
        return
    _swept.add(os.getpid())
    found = {re.match(r"downbeat-test-(\d+)-\w+", name) for name in client.scan_iter("downbeat-test-*", count=10_000)}
    for prefix, pid in {(match[0], int(match[1])) for match in found if match}:
        if not psutil.pid_exists(pid):
            delete(client, prefix)
