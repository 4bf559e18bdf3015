"""The process that children are forked from: it has loaded Django and all tasks once. One for each loading of the code.

`multiprocessing` has a single one for each program. Here its connection is chosen by the thread that starts a process,
so that one with new code can be made ready in another thread while children come from the one before.
"""

from __future__ import annotations

import threading
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from typing import Any

PRELOADED = ["pg_queue.worker.preload"]


class _Chosen(threading.local):
    server: Any = None


_chosen = _Chosen()
_connect_to_the_only_one = forkserver.connect_to_new_process


def _connect(descriptors: Any) -> Any:
    server = _chosen.server
    return _connect_to_the_only_one(descriptors) if server is None else server.connect_to_new_process(descriptors)


forkserver.connect_to_new_process = _connect  # type: ignore[assignment]  # what starts a process looks it up there each time


class Zygote:
    """One such process, begun with its first child; again, with the code as it is then, where it was killed."""

    def __init__(self) -> None:
        self._server: Any = forkserver.ForkServer()
        self._server.set_forkserver_preload(PRELOADED)

    def start(self, process: ForkServerProcess) -> None:
        """Fork and start this one; the first time that takes as long as loading the code.

        Raises: OSError, EOFError where the process that forks is gone: the next attempt starts another.
        """
        _chosen.server = self._server
        try:
            process.start()
        finally:
            _chosen.server = None

    def stop(self) -> None:
        """End it. None of its children may be left: how they end is learnt through it."""
        self._server._stop()
