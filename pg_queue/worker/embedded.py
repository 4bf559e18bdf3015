"""A worker inside a process that has other things to do: a web server's, a desktop application's.

Its tasks run in threads or on an event loop of its own, as `WorkerOptions.pool` says.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

from pg_queue.errors import Configuration
from pg_queue.process import StopRequest, check_ready, check_results_ready
from pg_queue.worker.loop import Worker
from pg_queue.worker.options import WorkerOptions, new_worker_id

logger = logging.getLogger(__name__)

EMBEDDED_POOLS = ("thread", "asyncio")
RESTART_SECONDS = 5.0
"""After a loop that ended with an error, and was not told to."""
LAST_WORDS_SECONDS = 5.0
"""How long after its drain a worker may take to end."""


class EmbeddedWorker:
    """Runs in a thread of its own, from `start` to `stop`."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._stop = StopRequest()
        self._worker: Worker | None = None
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Begin, after everything that can be known to be wrong was looked for.

        Raises: Configuration, where the options or threads will not do or the store cannot be made; NotMigrated;
        Django's `OperationalError`, or StoreUnavailable, where the store does not answer.
        """
        self._options.check()
        if self._options.pool not in EMBEDDED_POOLS:
            expected = " or ".join(map(repr, EMBEDDED_POOLS))
            raise Configuration(f"pool: expected {expected} inside another process, got: {self._options.pool!r}")
        check_ready(("pg_queue",), self._options.find_store())
        check_results_ready()
        self._worker = Worker(self._options, self._stop)
        self._thread.start()

    def stop(self) -> bool:
        """Claim no more, and wait until what runs has ended, at most for its drain and five seconds.

        Also while it drains already, and when it was never started. False: something goes on; its claim will run out.
        """
        self._stop.request()
        if self._thread.ident is not None:
            self._thread.join(self._options.drain_seconds + LAST_WORDS_SECONDS)
        return not self._thread.is_alive() and not self.details().get("held")

    def details(self) -> dict[str, object]:
        """See `Worker.details`; nothing before the start."""
        return {} if self._worker is None else self._worker.details()

    def _run(self) -> None:
        worker = self._worker
        while True:
            try:
                if worker is None:
                    worker = Worker(replace(self._options, worker_id=new_worker_id()), self._stop)
                    self._worker = worker
                worker.run()
                return
            except Exception:  # nobody else would start it again
                logger.exception("worker.failed restart_seconds=%s", RESTART_SECONDS)
            worker = None
            if self._stop.wait(RESTART_SECONDS):
                return
