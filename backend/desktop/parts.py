"""What runs beside the web in desktop mode, and the web itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import waitress

from backend.standalone.ports import LOOPBACK
from backend.wsgi import application
from pg_queue.api import EmbeddedWorker, WorkerOptions, queue_settings
from scheduler.api import EmbeddedScheduler

WEB_THREADS = 4
TASK_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Scheduler and worker."""

    scheduler: EmbeddedScheduler
    worker: EmbeddedWorker

    @classmethod
    def started(cls) -> Parts:
        """Start both. Raises: what `EmbeddedScheduler.start` and `EmbeddedWorker.start` raise; then neither runs."""
        options = WorkerOptions(
            queues=("default",), concurrency=TASK_THREADS, drain_seconds=queue_settings().drain_seconds
        )
        parts = cls(scheduler=EmbeddedScheduler(), worker=EmbeddedWorker(options))
        parts.worker.start()
        try:
            parts.scheduler.start()
        except BaseException:
            parts.worker.stop()
            raise
        return parts

    def stop(self) -> bool:
        """Fire nothing more, then run nothing more; False: something still runs."""
        ended = self.scheduler.stop()
        return self.worker.stop() and ended


def serve_web(port: int, *, on_open: Callable[[], None]) -> None:
    """Answer requests until `SystemExit` or `KeyboardInterrupt` is raised in this thread, which ends it in good order.

    `on_open` is called once the port accepts connections.
    """
    server = waitress.create_server(application, host=LOOPBACK, port=port, threads=WEB_THREADS, ident=None)
    try:
        on_open()
        server.run()
    finally:
        server.close()
