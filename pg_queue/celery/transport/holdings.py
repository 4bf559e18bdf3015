"""What a transport has handed out, and what was said of it since; and the thread that keeps it held."""

from __future__ import annotations

import logging
import random
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from time import monotonic
from typing import Any

from django.db import Error as DatabaseError

from pg_queue.celery.transport.address import Address
from pg_queue.celery.transport.broker import Broker
from pg_queue.celery.transport.sessions import OwnSession, store_on
from pg_queue.domain import Death, Failure, Settlement, Success
from pg_queue.storage.postgres import PostgresStore

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
"""How often a consumer takes back the claims of those that vanished, and deletes queues that nobody uses: a broker has
to, also where no reaper runs."""
SWEEP_LIMIT = 500
REJECTED = Failure(type="celery.rejected", message="a worker has rejected the message without wanting it back")


class Word(StrEnum):
    """What a consumer says of a message."""

    ACK = "ack"
    REQUEUE = "requeue"
    DISCARD = "discard"


@dataclass(slots=True, kw_only=True)
class Holding:
    """One claim that was handed out."""

    message_id: uuid.UUID
    token: uuid.UUID
    queue: str
    is_tracked: bool
    """Somebody waits for the message's end, so that acknowledging it is not the end of it."""
    message: weakref.ref[Any] | None = None
    """Kombu's message. Celery's request refers to it until the task has ended."""

    @property
    def pair(self) -> tuple[uuid.UUID, uuid.UUID]:
        """As the statements want it."""
        return self.message_id, self.token

    @property
    def is_alive(self) -> bool:
        """Whether anybody still deals with it."""
        return self.message is None or self.message() is not None


class Holdings:
    """Claims by delivery tag. Words may come from any thread; who consumes writes them down."""

    def __init__(self) -> None:
        self._held: dict[str, Holding] = {}
        self._watched: dict[str, Holding] = {}
        self._said: deque[tuple[Word, Holding]] = deque()

    def hold(self, tag: str, holding: Holding) -> None:
        """It was handed out under this tag."""
        self._held[tag] = holding

    def get(self, tag: str) -> Holding | None:
        """What is held under this tag."""
        return self._held.get(tag)

    def say(self, tag: str, word: Word) -> bool:
        """Note what is said of it; False: it is not held, so there is nothing to say."""
        holding = self._held.pop(tag, None)
        if holding is None:
            return False
        if word is Word.ACK and holding.is_tracked:
            self._watched[tag] = holding
        self._said.append((word, holding))
        return True

    def __bool__(self) -> bool:
        """Whether anything is held or was said."""
        return bool(self._held or self._said or self._watched)

    @property
    def has_words(self) -> bool:
        """Whether something was said that is not written down."""
        return bool(self._said)

    @property
    def words(self) -> int:
        """How many were said that are not written down."""
        return len(self._said)

    def renewable(self) -> list[Holding]:
        """What is to stay held. What was acknowledged and has ended since, its own task has settled."""
        for tag, holding in list(self._watched.items()):
            if not holding.is_alive:
                self._watched.pop(tag, None)
        return [*list(self._held.values()), *list(self._watched.values())]

    def let_go(self) -> list[Holding]:
        """Those that nobody deals with any more, and nobody has said a word of; they are no longer held here."""
        gone = [tag for tag, holding in list(self._held.items()) if not holding.is_alive]
        return [holding for tag in gone if (holding := self._held.pop(tag, None))]

    def forget(self, tokens: set[uuid.UUID]) -> None:
        """These claims are lost."""
        for known in (self._held, self._watched):
            for tag, holding in list(known.items()):
                if holding.token in tokens:
                    known.pop(tag, None)

    def write_down(self, store: PostgresStore, broker: Broker) -> None:
        """Settle what was said, in few statements. Raises: Django's database errors; then all is still to be said."""
        said: list[tuple[Word, Holding]] = []
        with suppress(IndexError):
            while True:
                said.append(self._said.popleft())
        if not said:
            return
        try:
            broker.spend(_pairs(said, Word.ACK, is_tracked=True))
            broker.give_back(_pairs(said, Word.REQUEUE))
            store.settle(
                [
                    *(_settlement(pair, Success(keep=False)) for pair in _pairs(said, Word.ACK, is_tracked=False)),
                    *(_settlement(pair, Death(failure=REJECTED)) for pair in _pairs(said, Word.DISCARD)),
                ]
            )
        except BaseException:
            self._said.extendleft(reversed(said))  # saying it twice does no harm: the token no longer holds
            raise


def _pairs(
    said: Sequence[tuple[Word, Holding]], word: Word, *, is_tracked: bool | None = None
) -> list[tuple[uuid.UUID, uuid.UUID]]:
    return [h.pair for w, h in said if w is word and is_tracked in {None, h.is_tracked}]


def _settlement(pair: tuple[uuid.UUID, uuid.UUID], outcome: Success | Death) -> Settlement:
    return Settlement(message_id=pair[0], token=pair[1], outcome=outcome)


class Keeper:
    """A thread with a session of its own that renews claims and touches queues, whatever its consumer is busy with.

    So a task that keeps the consumer's own thread (the pool `solo`) is not handed over twice. And after the consumer
    has lost its connection, what its pool still runs stays held, and is settled when it ends: a token is good on any
    session.
    """

    def __init__(self, address: Address, holdings: Holdings, *, queues: Callable[[], Sequence[str]]) -> None:
        """`queues`: the consumer's queues that expire when nobody touches them."""
        self._address, self._holdings, self._queues = address, holdings, queues
        self._stopping, self._is_orphan = threading.Event(), False
        self._session: OwnSession | None = None
        self.missing: set[str] = set()
        """Queues that were swept although they are in use: this process was frozen. To be declared again."""
        self._thread = threading.Thread(target=self._run, name="downbeat-keeper", daemon=True)
        self._sweep_at = monotonic() + SWEEP_SECONDS * random.random()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, is_lost: bool) -> None:
        """End. `is_lost`: only when nothing is held any more, since the consumer could not say goodbye."""
        self._is_orphan = is_lost
        self._stopping.set()
        if not is_lost and self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def _run(self) -> None:
        try:
            while not self._is_done():
                self._stopping.wait(self._pause()) if not self._is_orphan else threading.Event().wait(1.0)
                if not self._is_done():
                    self._round()
        finally:
            self._close()

    def _is_done(self) -> bool:
        return self._stopping.is_set() and not (self._is_orphan and self._holdings)

    def _pause(self) -> float:
        return min(self._address.renew_seconds, SWEEP_SECONDS, 3.0)

    def _round(self) -> None:
        try:
            if self._session is None or not self._session.is_open:
                self._session = OwnSession(self._address, name="downbeat broker keeper")
            store = store_on(self._session, self._address)
            self._keep(store, Broker(self._session, self._address.place.namespace))
        except DatabaseError as error:
            self._close()
            logger.warning("transport.keeper_failed what is held is renewed later; %s", str(error).strip())

    def _keep(self, store: PostgresStore, broker: Broker) -> None:
        if self._is_orphan:
            self._holdings.write_down(store, broker)
            broker.give_back([holding.pair for holding in self._holdings.let_go()])
        if held := self._holdings.renewable():
            pairs = [holding.pair for holding in held]
            alive = store.renew(pairs, lease=timedelta(seconds=self._address.lease_seconds))
            self._holdings.forget({token for _, token in pairs} - alive)
        if not self._is_orphan and (queues := self._queues()):
            self.missing |= set(queues) - broker.touch(queues)
        if monotonic() >= self._sweep_at:
            self._sweep_at = monotonic() + SWEEP_SECONDS * random.uniform(0.7, 1.3)
            sweep(store, broker)

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def sweep(store: PostgresStore, broker: Broker) -> int:
    """Take back what vanished consumers held, and delete what they alone used; how much that was."""
    return store.expire_claims(limit=SWEEP_LIMIT) + broker.sweep(limit=SWEEP_LIMIT)
