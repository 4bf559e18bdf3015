"""A worker's own row: announced, kept alive, signed off."""

from __future__ import annotations

import logging

from django.db import connections

from pg_queue.ports import QueueStore
from pg_queue.storage.unavailable import UNAVAILABLE
from pg_queue.worker.holdings import Holdings
from pg_queue.worker.options import Figures, WorkerOptions
from pg_queue.worker.statistics import Statistics

logger = logging.getLogger(__name__)


class Registration:
    """What the store knows of one worker."""

    def __init__(
        self,
        store: QueueStore,
        options: WorkerOptions,
        figures: Figures,
        holdings: Holdings,
        statistics: Statistics,
    ) -> None:
        self._store, self._options, self._figures, self._holdings = store, options, figures, holdings
        self._statistics = statistics

    def announce(self) -> None:
        """Say that it has started."""
        host, process_id, _ = self._options.worker_id.rsplit(":", 2)
        self._store.workers.announce(
            self._options.worker_id,
            host=host,
            process_id=int(process_id),
            queues=self._options.queues,
            concurrency=self._options.concurrency,
        )

    def beat(self) -> None:
        """Say that it is alive."""
        is_known = self._store.workers.beat(
            self._options.worker_id,
            running=len(self._holdings),
            finished=self._figures.finished,
            failed=self._figures.failed,
            statistics=self._statistics.take(),
        )
        if not is_known:  # away for so long that its row was forgotten
            self.announce()

    def sign_off(self) -> None:
        """Say that it stops, in good order. Raises nothing: it stops all the same."""
        for _ in range(2):  # the session may have been lost since it was last used
            try:
                self._store.workers.sign_off(
                    self._options.worker_id, finished=self._figures.finished, failed=self._figures.failed
                )
                return
            except UNAVAILABLE:
                logger.warning("worker.sign_off_failed worker=%s", self._options.worker_id, exc_info=True)
                connections.close_all()
