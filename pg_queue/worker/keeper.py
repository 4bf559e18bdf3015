"""The thread that keeps a worker's leases and its row alive, on a connection of its own, whatever the loop is doing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django.db import connections

from pg_queue.health.metrics import DATABASE_ERRORS
from pg_queue.ports import QueueStore
from pg_queue.settings import QueueSettings
from pg_queue.worker.holdings import Holdings

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5


class Keeper:
    """Renews every claim in `holdings` each `renew_seconds`, and calls `beat` each `heartbeat_seconds`.

    `on_lost` is called in this thread with the tokens of claims that somebody else has now.
    """

    def __init__(
        self,
        store: QueueStore,
        holdings: Holdings,
        conf: QueueSettings,
        *,
        beat: Callable[[], None],
        on_lost: Callable[[set[UUID]], None],
    ) -> None:
        self._store, self._holdings, self._on_lost = store, holdings, on_lost
        self._lease = timedelta(seconds=conf.lease_seconds)
        self._chores: dict[str, tuple[float, Callable[[], None]]] = {
            "renew": (conf.renew_seconds, self._renew),
            "heartbeat": (conf.heartbeat_seconds, beat),
        }
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Do no more, and wait for the chore in hand."""
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        due_at = {name: time.monotonic() + every for name, (every, _) in self._chores.items()}
        while not self._stopping.wait(max(0.0, min(due_at.values()) - time.monotonic())):
            for name in [name for name, at in due_at.items() if at <= time.monotonic()]:
                due_at[name] = time.monotonic() + self._do(name)
        connections.close_all()

    def _do(self, name: str) -> float:
        """Seconds until the chore is due again: soon, after a failure, since leases run on."""
        every, chore = self._chores[name]
        try:
            chore()
        except Exception:  # whatever it is: without this thread every lease runs out
            DATABASE_ERRORS.labels(name).inc()
            logger.warning("worker.chore_failed chore=%s", name, exc_info=True)
            connections.close_all()
            return min(every, RETRY_SECONDS)
        return every

    def _renew(self) -> None:
        asked = self._holdings.pairs()
        if not asked:
            return
        renewed = self._store.renew(asked, lease=self._lease)
        if lost := self._holdings.lost(asked, renewed):
            self._on_lost(lost)
