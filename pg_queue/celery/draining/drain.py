"""The loop: take a batch, store it, acknowledge it; and keep count of what stays."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from django.db import InterfaceError, OperationalError

from pg_queue.celery.draining.reading import Unreadable, read
from pg_queue.celery.draining.source import BrokerUnavailable, Delivery, Source
from pg_queue.celery.draining.storing import Destination, Stored

logger = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
"""How often an empty source is asked again."""
PROGRESS_SECONDS = 5.0
"""Between two words about how far it is, while there is work."""
LONGEST_PAUSE_SECONDS = 5.0
"""Before a lost connection is tried again."""

Say = Callable[..., None]


class Stop(Protocol):
    """A wish to stop; `pg_queue.process.StopRequest` is one."""

    count: int

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; True when a stop was asked for."""


@dataclass(slots=True)
class QueueCount:
    """What became of one queue's messages."""

    moved: int = 0
    known: int = 0
    """Handed over again after they were moved: acknowledged, and not stored twice."""


class Drain:
    """Moves messages from a source, over one connection after the other. Its counts are of all of them."""

    def __init__(self, destination: Destination, queues: Sequence[str], *, batch: int, stop: Stop, say: Say) -> None:
        """`say(event, **fields)` tells of progress; `batch` is the most messages of one transaction."""
        self._destination, self._queues, self._batch = destination, tuple(queues), batch
        self._stop, self._say = stop, say
        self.counts = {queue: QueueCount() for queue in queues}
        self._left: set[tuple[str, str | int]] = set()
        self._logged: set[tuple[str, str]] = set()
        self._told: Mapping[str, int] = {}
        self._told_at = time.monotonic()

    @property
    def left(self) -> Mapping[str, int]:
        """How many stay at the source, since they cannot be moved, by queue."""
        return {queue: sum(key[0] == queue for key in self._left) for queue in self._queues}

    @property
    def totals(self) -> Mapping[str, int]:
        """Of all queues: `moved`, `known`, `left`."""
        counts = self.counts.values()
        return {
            "moved": sum(count.moved for count in counts),
            "known": sum(count.known for count in counts),
            "left": len(self._left),
        }

    def run(self, connect: Callable[[], Source], *, once: bool) -> None:
        """Move what there is, until a stop is asked for; with `once`, until nothing more is to be had.

        What is left goes back when the connection is closed, at the end. While it goes on, a lost connection of either
        side is opened again; with `once`, that is the end.
        Raises: BrokerUnavailable; Django's database errors of a lost connection.
        """
        pause = 0.0
        while not self._stop.count:
            try:
                with closing(connect()) as source:
                    pause = 0.0
                    self._work(source, once=once)
                    return
            except (BrokerUnavailable, OperationalError, InterfaceError) as error:
                if once:
                    raise
                self._destination.close()
                pause = min(LONGEST_PAUSE_SECONDS, max(1.0, 2 * pause))
                self._say("interrupted", error=" ".join(str(error).split()), again_in_seconds=pause)
                self._stop.wait(pause)

    def _work(self, source: Source, *, once: bool) -> None:
        self._left.clear()  # another connection held it: it comes again
        while not self._stop.count:
            if self._round(source):
                continue
            source.tend()
            if self._round(source):
                continue
            self._tell(source)
            if once:
                return
            self._stop.wait(IDLE_SECONDS)
        self._tell(source)

    def _round(self, source: Source) -> bool:
        """Move one batch of each queue; whether there was anything new."""
        is_new = [self._pass(source, queue) for queue in self._queues if not self._stop.count]
        if any(is_new) and time.monotonic() - self._told_at >= PROGRESS_SECONDS:
            self._tell(source)
        return any(is_new)

    def _pass(self, source: Source, queue: str) -> bool:
        parcels, is_new = [], False
        options = self._destination.address.options
        for delivery in source.take(queue, limit=self._batch):
            is_new = is_new or delivery.key not in self._left
            try:
                parcels.append(
                    read(delivery, max_bytes=options.max_message_bytes, max_deliveries=options.max_deliveries)
                )
            except Unreadable as error:
                self._leave(delivery, str(error))
        if parcels:
            stored = self._destination.store(parcels, remember_seconds=source.remember_seconds)
            source.acknowledge([*stored.moved, *stored.known])
            self._count(queue, stored)
        return is_new

    def _count(self, queue: str, stored: Stored) -> None:
        count = self.counts[queue]
        count.moved += len(stored.moved)
        count.known += len(stored.known)
        for delivery, reason in stored.refused:
            self._leave(delivery, reason)

    def _leave(self, delivery: Delivery, reason: str) -> None:
        self._left.add(delivery.key)
        said = _name(delivery), reason
        if said not in self._logged:
            self._logged.add(said)
            logger.warning("draining.left queue=%s message=%s; %s", delivery.queue, *said)

    def _tell(self, source: Source) -> None:
        """Say how far it is, where that has changed."""
        held = source.held()
        waiting = sum(source.waiting(queue) or 0 for queue in self._queues)
        figures = {**self.totals, "waiting": waiting, **({} if held is None else {"held": held})}
        if figures != self._told:
            self._told, self._told_at = figures, time.monotonic()
            self._say("drained", **figures)


def _name(delivery: Delivery) -> str:
    """What an operator finds it by."""
    headers = (delivery.payload or {}).get("headers")
    task_id = headers.get("id") if isinstance(headers, Mapping) else None
    return str(task_id or delivery.tag)
