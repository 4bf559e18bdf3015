"""The server is stopped and started in the middle: what was answered is there, and its clients go on by themselves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from backend.standalone.ports import free_port
from tests.contract.actors import Actor, ServerFailed
from tests.contract.table import store_marker
from tests.places import own_redis
from tests.processes import OwnPostgresFactory, child_environment, migrate

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]
TRIES = 20


class Server(Protocol):
    """A store's server of the test's own."""

    def environment(self) -> dict[str, str]:
        """Of a process that uses it."""

    def stop(self) -> None:
        """At once, as by a machine that is switched off."""

    def start(self) -> None:
        """With what it had."""


class OwnPostgres:
    """PostgreSQL."""

    def __init__(self, factory: OwnPostgresFactory) -> None:
        self._server = factory(fsync="on")
        migrate(self._server.url)

    def environment(self) -> dict[str, str]:
        """See the protocol."""
        return child_environment(self._server.url)

    def stop(self) -> None:
        """See the protocol."""
        self._server.stop("immediate")

    def start(self) -> None:
        """See the protocol."""
        self._server.start()


class OwnRedis:
    """Redis that appends to a file."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.start()

    def environment(self) -> dict[str, str]:
        """See the protocol."""
        place = {"default": {"BACKEND": "redis", "URL": f"redis://127.0.0.1:{self._port}/0"}}
        return {
            **child_environment(None),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_PG_QUEUE": json.dumps({"STORES": place}),
        }

    def stop(self) -> None:
        """See the protocol."""
        self._running.__exit__(None, None, None)

    def start(self) -> None:
        """See the protocol."""
        self._running = own_redis(self._folder, self._port)
        self._running.__enter__()


@pytest.fixture(
    params=[
        pytest.param("postgres", marks=[store_marker("postgres")]),
        pytest.param("redis", marks=[store_marker("redis"), pytest.mark.services("redis")]),
    ]
)
def server(request: pytest.FixtureRequest, own_postgres: OwnPostgresFactory, tmp_path: Path) -> Iterator[Server]:
    """One that runs. SQLite has no server to be restarted: its processes are killed, in tests of its own."""
    if request.param == "postgres":
        yield OwnPostgres(own_postgres)
        return
    redis = OwnRedis(tmp_path)
    yield redis
    redis.stop()


@pytest.fixture
def actor(server: Server) -> Iterator[Actor]:
    """A client."""
    one = Actor(server)
    yield one
    one.kill()


@contextmanager
def away(server: Server) -> Iterator[None]:
    """Within: the server is stopped."""
    server.stop()
    try:
        yield
    finally:
        server.start()


def again(ask: Callable[[], Any]) -> Any:
    """Ask until it is answered: a session of before may fail once, and a server that recovers for a moment longer."""
    for left in reversed(range(TRIES)):
        try:
            return ask()
        except ServerFailed:
            if not left:
                raise
    raise AssertionError("never asked")


def test_what_was_answered_survives_a_restart_and_claims_hold_through_it(server: Server, actor: Actor) -> None:
    ids = actor("enqueue", count=20)
    held = actor("claim", limit=5, worker="w1")
    with away(server):
        pass
    assert again(lambda: actor("expire")) == 0
    assert actor("settle", claims=held) == ["done"] * 5
    rest = actor("drain", limit=4, worker="w2")
    assert Counter([*(c["id"] for c in held), *rest]) == Counter(ids)


def test_while_the_server_is_away_it_is_said_so_and_afterwards_the_same_client_goes_on(
    server: Server, actor: Actor
) -> None:
    before = actor("enqueue", count=1)
    with away(server):
        for _ in range(2):
            with pytest.raises(ServerFailed):
                actor("enqueue", count=1)
    after = again(lambda: actor("enqueue", count=1))
    assert set(actor("drain", limit=10, worker="w")) == {*before, *after}
