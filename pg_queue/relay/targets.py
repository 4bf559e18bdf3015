"""Where a topic leads."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from types import ModuleType
from typing import Protocol

from django.db import connections

from pg_queue.domain import Capability, NewMessage
from pg_queue.errors import CapabilityMissing, Configuration
from pg_queue.ports import QueueStore
from pg_queue.routes import CELERY, STORE
from pg_queue.settings import queue_settings
from pg_queue.storage import store

logger = logging.getLogger(__name__)

KEY_TTL = timedelta(days=30)
"""How long after its end a message is known in the store that it was relayed into, and not stored again."""

Sent = tuple[uuid.UUID, Exception | None]
"""A message's id, and why the target has refused it; None: it was taken."""


class Target(Protocol):
    """Another system that takes messages. One thread's own; connects when it is first needed."""

    @property
    def has_outcomes(self) -> bool:
        """Whether it can be asked what became of a message."""

    def send(self, messages: Sequence[NewMessage]) -> Iterator[Sent]:
        """Send the messages in their order, and tell of each what came of it, as soon as it is known.

        Ends early where the target does not answer any more: the messages after the last one told of were not sent.
        """
        ...

    def close(self) -> None:
        """Give the connection up. Raises nothing."""
        ...


def target_of(topic: str) -> Target:
    """The target that a topic of the outbox names. Raises: Configuration, also for what is not installed.

    A row of the outbox alone imports nothing: it is the settings that say which Celery apps there are.
    """
    routes = queue_settings().routing
    if topic.startswith(CELERY):
        if topic not in routes.topics:
            path = topic.removeprefix(CELERY)
            raise Configuration(f"PG_QUEUE['ROUTES']: expected a route to the Celery app {path!r}, got: none")
        target: Target = _sending().CeleryTarget(topic.removeprefix(CELERY), routes)
        return target
    if topic.startswith(STORE):
        return StoreTarget(topic.removeprefix(STORE))
    raise Configuration(f"topic: expected {STORE!r} or {CELERY!r} and a name, got: {topic!r}")


def check_target(topic: str) -> None:
    """Refuse what can be known to be no target, without talking to it. Raises: Configuration, CapabilityMissing."""
    if topic.startswith(STORE):
        _store_with_keys(topic.removeprefix(STORE))
    else:
        _sending().find_app(topic.removeprefix(CELERY))


class StoreTarget:
    """Another store. What it has taken once it does not store again, for as long as a key holds there."""

    has_outcomes = True

    def __init__(self, alias: str) -> None:
        """Raises: CapabilityMissing for a store that has no idempotency keys."""
        self._alias = alias
        self._store = _store_with_keys(alias)

    def send(self, messages: Sequence[NewMessage]) -> Iterator[Sent]:
        """See the protocol. All in one transaction of the store's; one by one where it refuses that."""
        keyed = [replace(message, key=str(message.id), key_ttl=KEY_TTL) for message in messages]
        try:
            self._store.enqueue(keyed)
        except Exception as error:  # noqa: BLE001 - whatever it is, the messages are tried one by one
            logger.info("relay.batch_refused messages=%s error=%s: %s", len(keyed), type(error).__name__, error)
            self._drop_broken_connection()
            yield from self._send_each(keyed)
        else:
            yield from ((_id(message), None) for message in messages)

    def close(self) -> None:
        """See the protocol. The store's connection is the thread's, which closes it."""

    def _send_each(self, messages: Sequence[NewMessage]) -> Iterator[Sent]:
        for message in messages:
            try:
                self._store.enqueue([message])
            except Exception as error:  # noqa: BLE001 - whatever it is, the message waits, and its error is kept
                self._drop_broken_connection()
                yield _id(message), error
                if not self._answers():
                    return
            else:
                yield _id(message), None

    def _answers(self) -> bool:
        try:
            self._store.next_due_seconds(["default"])
        except Exception:  # noqa: BLE001 - that is the answer
            self._drop_broken_connection()
            return False
        return True

    def _drop_broken_connection(self) -> None:
        """Django keeps one that its server has ended, and every further statement on it fails."""
        if Capability.TRANSACTIONS in self._store.capabilities:
            connections[queue_settings().places[self._alias].database].close_if_unusable_or_obsolete()


def _store_with_keys(alias: str) -> QueueStore:
    """The store, unless it would keep a repetition as a second message."""
    place = store(alias)
    if Capability.KEYS not in place.capabilities:
        raise CapabilityMissing(alias, Capability.KEYS)
    return place


def _id(message: NewMessage) -> uuid.UUID:
    assert message.id is not None  # the outbox keeps none without
    return message.id


def _sending() -> ModuleType:
    try:
        from pg_queue.celery import sending
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("celery", "kombu"):
            raise
        raise Configuration("PG_QUEUE['ROUTES']: expected Celery to be installed, for a route with 'CELERY'") from error
    return sending
