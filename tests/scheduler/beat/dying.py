"""A scheduler class for a Beat that is killed between its claim and the publishing of the message."""

from __future__ import annotations

import os
import signal
from typing import Any

from scheduler.beat.gate import DownbeatScheduler


class DyingScheduler(DownbeatScheduler):
    """Kills its process where it would publish."""

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        """SIGKILL."""
        os.kill(os.getpid(), signal.SIGKILL)
