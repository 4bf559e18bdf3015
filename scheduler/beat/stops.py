"""A stop that comes at a bad moment, put off until the moment is over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPS = signal.SIGTERM, signal.SIGINT


@contextmanager
def stops_put_off() -> Iterator[None]:
    """SIGTERM and SIGINT take effect at the end of the block; a second one at once.

    Does nothing beside the main thread. By handlers and not by masking signals: Python runs handlers in the main thread
    whichever thread the system chose.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            restore()
            signal.raise_signal(number)
        asked.append(number)

    before = {number: signal.signal(number, note) for number in _STOPS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    try:
        yield
    finally:
        restore()
        if asked:
            signal.raise_signal(asked[0])
