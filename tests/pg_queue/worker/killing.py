"""A store of results that kills its worker: `BACKEND` is its dotted path, `TEST_RESULTS_BACKEND` the real one's.

After the first batch that it has put, and before the worker can settle anything, the process is gone. Once only:
`TEST_RESULTS_KILLED` names a file that says that it has happened.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.utils.module_loading import import_string

from pg_queue.results.domain import Outcome
from pg_queue.results.registry import BACKENDS
from pg_queue.settings import QueueSettings


class KillsAfterPut:
    """The real store, but for the first `put`."""

    def __init__(self, conf: QueueSettings) -> None:
        assert conf.results is not None
        backend = os.environ["TEST_RESULTS_BACKEND"]
        self._real = import_string(BACKENDS[backend])(replace(conf, results=replace(conf.results, backend=backend)))
        self._killed = Path(os.environ["TEST_RESULTS_KILLED"])

    def put(self, outcomes: Sequence[Outcome]) -> None:
        """Put them, and, the first time, be killed."""
        self._real.put(outcomes)
        if not self._killed.exists():
            self._killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
