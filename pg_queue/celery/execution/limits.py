"""The soft time limit is the task's body's alone: raised in what Celery does around it, it would tear that apart."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SOFT_LIMIT = {signal.SIGUSR1}
"""By which a child process is told; see `pg_queue.worker.child`."""


@contextmanager
def held_back() -> Iterator[None]:
    """Inside the block the signal waits, and what still waits at its end came too late."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SOFT_LIMIT)
    try:
        yield
    finally:
        while signal.sigtimedwait(_SOFT_LIMIT, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def let_through() -> Iterator[None]:
    """Inside the block it does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, _SOFT_LIMIT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
