"""One topic of the outbox, brought to its target: lease, send, confirm or put off."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction

from pg_queue.domain import Capability, Event, NewMessage
from pg_queue.health.metrics import RELAY_DEFERRED, RELAYED
from pg_queue.relay.followers import followers, following
from pg_queue.relay.targets import Target, target_of
from pg_queue.routes import HERE, STORE
from pg_queue.settings import queue_settings
from pg_queue.storage import store
from pg_queue.storage.parcels import UNREADABLE, unpack

logger = logging.getLogger(__name__)

FIRST_DELAY_SECONDS = 1.0
_HOLD = timedelta(seconds=30)
"""When a store without transactions hands over again what nobody has confirmed, because its taker was killed."""
_LONGEST_ERROR = 2000
"""Characters of an error that are kept with an event."""


@dataclass(slots=True, kw_only=True)
class Round:
    """What one round did."""

    leased: int = 0
    taken: int = 0
    refused: int = 0
    """Put off alone."""
    unsent: int = 0
    """Put off because the target did not answer, or because the lease was nearly over."""
    error: str = ""
    """Why the target does not answer; empty: it does."""

    def add(self, other: Round) -> None:
        """Sum up; the error is the other's."""
        self.leased += other.leased
        self.taken += other.taken
        self.refused += other.refused
        self.unsent += other.unsent
        self.error = other.error


@dataclass(frozen=True, slots=True)
class _Parcel:
    event: Event
    message: NewMessage


class Courier:
    """Brings one topic's events to their target. One thread's own."""

    def __init__(self, topic: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.topic = topic
        self._conf = queue_settings()
        self._clock = clock
        self._target: Target | None = None

    def make_round(self) -> Round:
        """Relay one batch. Raises: what the queue's own database raises; what was leased then waits for its lease."""
        conf = self._conf
        lease = timedelta(seconds=conf.relay_lease_seconds)
        stop_at = self._clock() + conf.relay_lease_seconds / 2
        events = store().outbox.lease([self.topic], limit=conf.relay_batch, lease=lease)
        made = Round(leased=len(events))
        if events:
            self._relay(self._unpacked(events, made), made, stop_at)
        return made

    def collect(self) -> int:
        """Carry outcomes from a target that has them to who follows; how many. Raises: what store and follower raise.

        The target's transaction ends after the queue's own, and what a target without transactions has handed over is
        confirmed after it. Between the two an outcome is not lost but told twice.
        """
        if not self.topic.startswith(STORE):
            return 0
        alias, limit = self.topic.removeprefix(STORE), self._conf.reap_batch
        return sum(_collect(alias, report_to, limit) for report_to in followers())

    def close(self) -> None:
        """Give the target up. Raises nothing."""
        if self._target is not None:
            self._target.close()

    def _relay(self, parcels: Sequence[_Parcel], made: Round, stop_at: float) -> None:
        try:
            self._target = self._target or target_of(self.topic)
        except Exception as error:  # noqa: BLE001 - the setting's, or what the project's module raises on import
            self._defer_unsent(parcels, made, error)
            return
        taken, last_error, told = [], None, 0
        for (_, refusal), parcel in zip(self._target.send([p.message for p in parcels]), parcels, strict=False):
            told += 1
            last_error = refusal
            if refusal is None:
                taken.append(parcel)
            else:
                self._defer_refused(parcel.event, made, refusal)
            if refusal is None and self._clock() >= stop_at:
                break  # for the others there was no time; a target that only fails is not known to answer
        self._confirm(taken, made, has_outcomes=self._target.has_outcomes)
        if unsent := parcels[told:]:
            self._defer_unsent(unsent, made, last_error)

    def _unpacked(self, events: Sequence[Event], made: Round) -> list[_Parcel]:
        """What can be read; an event that somebody has put there by hand is put off with its error."""
        parcels = []
        for event in events:
            try:
                message = unpack(event.payload)
                if message.id is None:
                    raise ValueError("id: expected the message's id, got: none")
                if not isinstance(message.report_to, str | None):
                    raise ValueError(f"report_to: expected a text or none, got: {message.report_to!r}")
                parcels.append(_Parcel(event, message))
            except UNREADABLE as error:
                self._defer_refused(event, made, error)
        return parcels

    def _confirm(self, taken: Sequence[_Parcel], made: Round, *, has_outcomes: bool) -> None:
        if not taken:
            return
        with _transaction_of(HERE):
            confirmed = store().outbox.confirm([parcel.event for parcel in taken])
            for follower, messages in following([parcel.message for parcel in taken]):
                follower.on_taken(messages, has_outcomes)
        if len(confirmed) < len(taken):
            logger.warning("relay.repeated topic=%s messages=%s", self.topic, len(taken) - len(confirmed))
        made.taken += len(taken)
        RELAYED.labels(self.topic).inc(len(taken))
        logger.debug("relay.sent topic=%s messages=%s", self.topic, len(taken))

    def _defer_refused(self, event: Event, made: Round, error: Exception) -> None:
        delay = min(FIRST_DELAY_SECONDS * 2 ** min(event.attempts - 1, 30), self._conf.relay_backoff_max_seconds)
        text = _text(error)
        store().outbox.defer([event], delay=timedelta(seconds=delay), error=text)
        made.refused += 1
        RELAY_DEFERRED.labels(self.topic).inc()
        logger.warning(
            "relay.deferred topic=%s key=%s attempt=%s delay_seconds=%s error=%s",
            self.topic, event.key, event.attempts, delay, text,
        )  # fmt: skip

    def _defer_unsent(self, parcels: Sequence[_Parcel], made: Round, error: Exception | None) -> None:
        """The courier itself waits before it goes on; so the events are due at once."""
        made.error = "" if error is None else _text(error)
        made.unsent += len(parcels)
        store().outbox.defer([parcel.event for parcel in parcels], delay=timedelta(0), error=made.error)
        if error is not None:
            RELAY_DEFERRED.labels(self.topic).inc(len(parcels))
            logger.warning("relay.unavailable topic=%s messages=%s error=%s", self.topic, len(parcels), made.error)


def _collect(alias: str, report_to: str, limit: int) -> int:
    total = 0
    while True:
        with _transaction_of(alias), _transaction_of(HERE):
            outcomes = store(alias).take_outcomes(report_to, limit=limit, hold=_HOLD)
            if outcomes:
                followers()[report_to].on_outcomes(outcomes)
        store(alias).confirm_outcomes(report_to, outcomes)
        total += len(outcomes)
        if len(outcomes) < limit:
            return total


def _transaction_of(alias: str) -> AbstractContextManager[None]:
    """A transaction on the store's database; nothing where it has none."""
    if Capability.TRANSACTIONS not in store(alias).capabilities:
        return nullcontext()
    return transaction.atomic(using=queue_settings().places[alias].database)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".replace("\x00", "")[:_LONGEST_ERROR]
