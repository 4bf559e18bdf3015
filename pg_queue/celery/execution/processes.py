"""What Celery tells a process that is to run tasks."""

from __future__ import annotations

import os
import threading

from celery import Celery, signals

_begun: set[int] = set()
_beginning = threading.Lock()


def begin_once(app: Celery) -> None:
    """Send `worker_process_init`, before the process's first task of Celery's. Safe in parallel.

    The app becomes every thread's, as in a worker of Celery's: `AsyncResult(id)` in a task asks its result backend.
    """
    with _beginning:
        if os.getpid() not in _begun:
            _begun.clear()  # those of the process that forked this one
            _begun.add(os.getpid())
            app.set_default()
            signals.worker_process_init.send(sender=None)
