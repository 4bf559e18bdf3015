"""A courier per topic, each in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import close_old_connections, connections

from pg_queue.domain import Capability
from pg_queue.relay.courier import FIRST_DELAY_SECONDS, Courier, Round
from pg_queue.routes import CELERY, STORE
from pg_queue.settings import queue_settings
from pg_queue.storage import store

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
"""How often it is looked for topics that no route names any more, and that still hold something."""


@dataclass(slots=True, kw_only=True)
class _Figures:
    """What a courier's thread says of itself."""

    sent: int = 0
    deferred: int = 0
    error: str = ""
    """Why the last round came to nothing; empty: it did not."""
    outcomes_error: str = ""
    """Why the target's outcomes could not be carried over when they were last asked for; empty: they were."""
    since: float = 0.0
    """`time.monotonic()` of the first failure of this row of failures."""


class Relay:
    """Relays from `start` to `stop`; may be started again. Nothing happens without routes and without a backlog."""

    def __init__(self) -> None:
        self._crew: _Crew | None = None

    def start(self) -> None:
        """Begin now, in threads. Does nothing on a store without an outbox."""
        if Capability.EVENTS in store().capabilities:
            self._crew = _Crew()

    def stop(self) -> None:
        """End after the batches in hand. Does not wait."""
        if self._crew is not None:
            self._crew.stop()

    def join(self, timeout_seconds: float = 10.0) -> None:
        """Wait until what was stopped has ended, at most so long."""
        if self._crew is not None:
            self._crew.join(timeout_seconds)

    def wake(self) -> None:
        """There may be something to send. From any thread."""
        if self._crew is not None:
            self._crew.wake()

    def status(self) -> Mapping[str, Any]:
        """Per topic: what was sent and put off since the start, and why the target does not answer. No I/O."""
        return {} if self._crew is None else self._crew.status()

    def run_once(self) -> Mapping[str, Round]:
        """Relay what is due, topic by topic, a batch at a time until one is not full; what was done, by topic."""
        if Capability.EVENTS not in store().capabilities:
            return {}
        return {topic: _empty(topic) for topic in sorted({*queue_settings().routing.topics, *_topics_left()})}


class _Crew:
    """The threads of one start."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._wakes: dict[str, threading.Event] = {}
        self._figures: dict[str, _Figures] = {}
        self._threads: list[threading.Thread] = []
        for topic in queue_settings().routing.topics:
            self._begin(topic)
        self._threads.append(_thread("relay", self._look_for_topics))

    def stop(self) -> None:
        self._stopping.set()
        self.wake()

    def join(self, timeout_seconds: float) -> None:
        stop_at = time.monotonic() + timeout_seconds
        for thread in list(self._threads):
            thread.join(max(0.0, stop_at - time.monotonic()))

    def wake(self) -> None:
        for event in list(self._wakes.values()):
            event.set()

    def status(self) -> Mapping[str, Any]:
        return {topic: _shown(figures) for topic, figures in sorted(self._figures.items())}

    def _begin(self, topic: str) -> None:
        wake, figures = threading.Event(), _Figures()
        self._wakes[topic], self._figures[topic] = wake, figures
        self._threads.append(_thread(f"relay {topic}", lambda: self._run(topic, wake, figures)))

    def _run(self, topic: str, wake: threading.Event, figures: _Figures) -> None:
        courier, failures = Courier(topic), 0
        is_time = _every(queue_settings().relay_seconds)
        try:
            while not self._stopping.is_set():
                wake.clear()
                made = _attempt(topic, courier.make_round)
                if is_time():
                    figures.outcomes_error = _collect(topic, courier)
                failures = failures + 1 if made.error else 0
                _note(topic, figures, made)
                if made.error:
                    self._stopping.wait(_patience(failures))
                elif made.leased < queue_settings().relay_batch and not made.unsent:
                    wake.wait(queue_settings().relay_seconds)
        finally:
            courier.close()
            connections.close_all()

    def _look_for_topics(self) -> None:
        try:
            while not self._stopping.is_set():
                for topic in _left_quietly():
                    if topic not in self._figures:
                        self._begin(topic)
                self._stopping.wait(LOOK_SECONDS)
        finally:
            connections.close_all()


def _empty(topic: str) -> Round:
    """Relay until a batch is not full."""
    courier, total = Courier(topic), Round()
    try:
        while True:
            made = _attempt(topic, courier.make_round)
            total.add(made)
            if made.error or made.leased < queue_settings().relay_batch:
                break
        error = _collect(topic, courier)
        total.error = total.error or error
        return total
    finally:
        courier.close()


def _attempt(topic: str, make_round: Callable[[], Round]) -> Round:
    """One round; what the queue's own database raises is its error."""
    try:
        return make_round()
    except Exception as error:
        logger.exception("relay.failed topic=%s", topic)
        close_old_connections()
        return Round(error=_text(error))


def _collect(topic: str, courier: Courier) -> str:
    """Carry the target's outcomes over; why that failed, else nothing. What is to be sent does not wait for it."""
    try:
        courier.collect()
    except Exception as error:
        logger.exception("relay.outcomes_failed topic=%s", topic)
        close_old_connections()
        return _text(error)
    return ""


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}"


def _every(seconds: float) -> Callable[[], bool]:
    """True when asked for the first time, and again not sooner than after so long."""
    next_at = time.monotonic()

    def is_time() -> bool:
        nonlocal next_at
        if time.monotonic() < next_at:
            return False
        next_at = time.monotonic() + seconds
        return True

    return is_time


def _patience(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return float(min(FIRST_DELAY_SECONDS * 2 ** min(failures - 1, 30), queue_settings().relay_backoff_max_seconds))


def _note(topic: str, figures: _Figures, made: Round) -> None:
    figures.sent += made.taken
    figures.deferred += made.refused + made.unsent
    if made.error and not figures.error:
        figures.since = time.monotonic()
    elif figures.error and not made.error:
        logger.info("relay.recovered topic=%s after_seconds=%.1f", topic, time.monotonic() - figures.since)
    figures.error = made.error


def _shown(figures: _Figures) -> Mapping[str, Any]:
    shown: dict[str, Any] = {"sent": figures.sent, "deferred": figures.deferred}
    if figures.error:
        shown |= {"error": figures.error, "failing_seconds": round(time.monotonic() - figures.since, 1)}
    if figures.outcomes_error:
        shown |= {"outcomes_error": figures.outcomes_error}
    return shown


def _topics_left() -> list[str]:
    """Topics of messages that wait to be relayed, whether a route still names them or not."""
    return [one.topic for one in store().outbox.backlog() if one.topic.startswith((STORE, CELERY))]


def _left_quietly() -> list[str]:
    try:
        return _topics_left()
    except Exception:
        logger.exception("relay.look_failed")
        close_old_connections()
        return []


def _thread(name: str, run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
