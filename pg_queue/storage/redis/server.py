"""The Redis server: connecting, making sure that it will do, running scripts, and its errors in the queue's words."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pg_queue.domain import Json
from pg_queue.errors import Configuration, StoreUnavailable
from pg_queue.lua import Script, script
from pg_queue.settings import StoreSettings

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import PubSub

LEAST_VERSION = (7, 0)
CONNECT_SECONDS = 5.0
SOCKET_TIMEOUT_SECONDS = 10.0
"""How long an answer may take, where the settings do not say: a hundred thousand messages take a second."""


class Server:
    """One server, by the settings of a store. Safe to use from any thread and after a fork."""

    def __init__(self, place: StoreSettings) -> None:
        """Connects to nothing yet. Raises: Configuration, also where redis-py is not installed."""
        self.prefix, self._timeout = _options(place)
        self.label = _label(place.url)
        self._client = _client(place, self._timeout)
        self._checked_in = 0
        self._checking = threading.Lock()

    def run(self, topic: str, operation: str, **request: Json) -> Any:
        """Run an operation of a script and return its answer. Raises: StoreUnavailable, Configuration."""
        arguments = (0, operation, self.prefix, _encode(request))
        with self.errors():
            self._check()
            return self._evaluate(script(topic), arguments)

    def subscribe(self, channel: str) -> PubSub:
        """A subscription on a connection of its own, which hears what is sent from now on. Raises: as `run`."""
        with self.errors():
            self._check()
            subscription: PubSub = self._client.pubsub()  # type: ignore[no-untyped-call]
            subscription.subscribe(channel)
            subscription.get_message(timeout=self._timeout)  # the server's word that it is subscribed
            return subscription

    def _evaluate(self, one: Script, arguments: tuple[Any, ...]) -> Any:
        from redis.exceptions import NoScriptError

        try:
            return self._client.evalsha(one.sha, *arguments)
        except NoScriptError:  # the server has restarted, or somebody has flushed its scripts: nothing was run
            return self._client.eval(one.text, *arguments)

    def _check(self) -> None:
        """Once per process, at the first use: whether the server can keep what the contract promises."""
        if self._checked_in == os.getpid():
            return
        with self._checking:
            if self._checked_in != os.getpid():
                facts = self._client.info("everything")
                if problem := unfit(facts):
                    raise Configuration(f"Redis at {self.label}: {problem}")
                self._checked_in = os.getpid()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Within: what the server, or the connection to it, raises is `StoreUnavailable`."""
        from redis.exceptions import RedisError

        try:
            yield
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"Redis at {self.label}: {type(error).__name__}: {error}") from error


def unfit(facts: Mapping[str, Any]) -> str | None:
    """Why a server with these facts (of its INFO) cannot hold a queue; None: it can."""
    version = str(facts.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < LEAST_VERSION:
        return f"expected Redis {'.'.join(map(str, LEAST_VERSION))} or later, got: {version}"
    if int(facts.get("cluster_enabled", 0)):
        return (
            "expected a server that is not in cluster mode, got: cluster_enabled:1. An operation is one script over "
            "many keys, which a cluster keeps on different servers: it could no longer happen whole or not at all"
        )
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys"):
        return (
            "expected the maxmemory-policy noeviction (or one of volatile-*, as nothing here has an expiry), "
            f"got: {policy}. With it the server deletes messages when its memory is full"
        )
    return None


def _options(place: StoreSettings) -> tuple[str, float]:
    options = {"PREFIX": "downbeat", "SOCKET_TIMEOUT_SECONDS": SOCKET_TIMEOUT_SECONDS} | dict(place.options)
    if unknown := sorted(set(options) - {"PREFIX", "SOCKET_TIMEOUT_SECONDS"}):
        raise place.wrong("OPTIONS", "keys among PREFIX, SOCKET_TIMEOUT_SECONDS", repr(unknown[0]))
    prefix, timeout = options["PREFIX"], options["SOCKET_TIMEOUT_SECONDS"]
    if not isinstance(prefix, str) or not prefix:
        raise place.wrong("OPTIONS", "a PREFIX that is a text, not empty", repr(prefix))
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 3600:  # false for NaN
        raise place.wrong("OPTIONS", "SOCKET_TIMEOUT_SECONDS above 0, at most 3600", repr(timeout))
    return prefix, float(timeout)


def _client(place: StoreSettings, timeout: float) -> Redis:
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        needed = "redis-py, which `pip install 'django-downbeat[redis]'` brings"
        raise place.wrong("BACKEND", needed, f"'redis' ({error})") from error
    try:
        client: Redis = Redis.from_url(
            place.url,
            decode_responses=True,
            encoding_errors="replace",  # what was written by hand need not be text; it is to be read and buried
            socket_timeout=timeout,
            socket_connect_timeout=min(timeout, CONNECT_SECONDS),
            protocol=2,  # one stream of answers, without pushes in between
            retry=Retry(NoBackoff(), 0),  # a second try of an enqueue that was done would do it twice
        )
    except ValueError as error:
        raise place.wrong("URL", "an address such as redis://127.0.0.1:6379/0", _shown(place.url)) from error
    return client


def _label(url: str) -> str:
    """The address without user and password, as a log may show it."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}/{parts.path.strip('/') or 0}"


def _shown(url: str) -> str:
    return repr(url) if "@" not in url else "one with a password, not shown"


_encode = json.JSONEncoder(separators=(",", ":")).encode
