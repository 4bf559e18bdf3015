"""A scheduler inside a process that has other things to do: the loop, the relay and the reaper, in threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from pg_queue.api import Leadership, Pulse, Reaper, Relay, StopRequest, all_duties, check_ready
from scheduler.loop import Loop

logger = logging.getLogger(__name__)

ALIVE_SECONDS = 30.0
"""A loop that has not turned for so long hangs."""
RESTART_SECONDS = 5.0
"""After a loop that ended with an error, and was not told to."""
STOP_SECONDS = 10.0


class EmbeddedScheduler:
    """Stands for the lead, ticks and relays while it leads, and reaps, from `start` to `stop`. One of any number."""

    def __init__(self) -> None:
        self._stop = StopRequest()
        self._pulse = Pulse(limit_seconds=ALIVE_SECONDS)
        self._leadership: Leadership | None = None
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._relay = Relay()
        self._reaper = Reaper(all_duties())

    def start(self) -> None:
        """Begin. Raises: NotMigrated; Django's `OperationalError` where the database does not answer."""
        check_ready(("pg_queue", "scheduler"))
        self._thread.start()
        self._reaper.start()

    def stop(self) -> bool:
        """Hand the lead over, and end; False: something did not end within ten seconds. Also when it never began."""
        self._stop.request()
        if self._thread.ident is None:
            return True
        self._reaper.stop(STOP_SECONDS)
        self._thread.join(STOP_SECONDS)
        self._relay.stop()
        self._relay.join(STOP_SECONDS)
        return not self._thread.is_alive()

    @property
    def is_leader(self) -> bool:
        """Whether it leads now."""
        return self._leadership is not None

    def details(self) -> Mapping[str, object]:
        """Its role, whether its loop turns, and while it leads its term and its relay."""
        leadership, alive = self._leadership, self._pulse.is_alive
        if leadership is None:
            return {"role": "standby", "alive": alive}
        leads: dict[str, object] = {"role": "leader", "term": leadership.term, "alive": alive}
        return leads | ({"relay": relay} if (relay := self._relay.status()) else {})

    def _run(self) -> None:
        while not self._stop.count:
            try:
                Loop(self._stop, on_turn=self._pulse.beat, on_role=self._note_role, on_fired=self._relay.wake).run()
            except Exception:  # nobody else would start it again
                logger.exception("scheduler.failed restart_seconds=%s", RESTART_SECONDS)
                self._stop.wait(RESTART_SECONDS)

    def _note_role(self, leadership: Leadership | None) -> None:
        self._leadership = leadership
        if leadership is None:
            self._relay.stop()
        else:
            self._relay.start()
