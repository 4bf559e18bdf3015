"""Records what a Beat process sends, from a thread of its own: Beat hands a send over and goes on.

Whatever fails here, Beat does not hear of it. A failed write is tried again, after 0.1 s at first and 5 s at most,
while at most `MOST_SENDS` wait in memory; more are counted as lost. The process gives a sign of life every 2 s. At its
end what waits is written within 5 s, or counted in the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from datetime import UTC, datetime, timedelta

import psycopg

from pg_queue.api import QueueError
from scheduler.beat.journal import Journal
from scheduler.beat.sends import Process, Send, Tally
from scheduler.beat.sessions import BoundedSession, Session
from scheduler.domain import SendState

logger = logging.getLogger(__name__)

MOST_SENDS = 10_000
"""Sends that wait in memory while the database does not take them."""
BATCH = 500
POLL_SECONDS = 0.1
HEARTBEAT_SECONDS = 2.0
FLUSH_SECONDS = 5.0
"""How long the end of the process waits for what is not written yet."""
PATIENCE = timedelta(seconds=10)
"""How long a send waits for a mirror that somebody else holds."""
_RETRY_SECONDS = 0.1, 5.0
_COMPLAINT_SECONDS = 60.0


class Recorder:
    """One for each process. `add` is called by Beat's thread; everything else happens in the recorder's own."""

    def __init__(self, process: Process) -> None:
        self.tally = Tally()
        self._journal = Journal(process)
        self._session = BoundedSession("downbeat beat observer")
        self._queue: deque[Send] = deque()
        self._taken: list[Send] = []
        """Out of the queue, and not known to be recorded."""
        self._limit = BATCH
        self._is_repeated = False
        self._wait_seconds = 0.0
        self._retry_at = self._heartbeat_at = 0.0
        self._complained_at: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="downbeat-beat-observer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def add(self, send: Send) -> None:
        """Have a send recorded. Waits for nothing, and raises nothing."""
        if len(self._queue) < MOST_SENDS:
            self._queue.append(send)
        else:
            self.tally.overflowed += 1

    def close(self) -> None:
        """Write what waits, and say that the process ends; takes at most 5 s."""
        self._stop.set()
        self._thread.join(FLUSH_SECONDS)
        if left := self._waiting():
            logger.error("beat.sends_not_recorded count=%s", left)

    def _waiting(self) -> int:
        return len(self._queue) + len(self._taken)

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            if time.monotonic() >= self._retry_at:
                self._turn()
        ends_at = time.monotonic() + FLUSH_SECONDS
        while not self._turn(is_last=True) and time.monotonic() < ends_at:
            time.sleep(POLL_SECONDS)
        self._session.close()

    def _turn(self, *, is_last: bool = False) -> bool:
        """Write what waits and what is due; whether all of that could be done."""
        is_heartbeat_due = time.monotonic() >= self._heartbeat_at
        if not (self._waiting() or is_heartbeat_due or is_last):
            return True
        try:
            with self._session.open() as session:
                if is_heartbeat_due:
                    self._give_sign_of_life(session)
                self._write(session, is_last=is_last)
                if is_last:
                    self._give_sign_of_life(session, is_stopped=True)
        except Exception as error:  # noqa: BLE001  whatever fails here, Beat goes on sending
            self._note_failure(error)
            return False
        self._note_success()
        return True

    def _give_sign_of_life(self, session: Session, *, is_stopped: bool = False) -> None:
        self._journal.give_sign_of_life(session, self.tally, is_stopped=is_stopped)
        self._heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS

    def _write(self, session: Session, *, is_last: bool) -> None:
        """Batch by batch until nothing is left, but for sends whose mirrors somebody holds."""
        waiting_since = datetime.max.replace(tzinfo=UTC) if is_last else datetime.now(UTC) - PATIENCE
        while self._waiting():
            while self._queue and len(self._taken) < self._limit:
                self._taken.append(self._queue.popleft())
            batch = self._taken
            self._taken = self._journal.record(
                session, batch, waiting_since=waiting_since, is_repeated=self._is_repeated
            )
            self._is_repeated = False
            self._count(batch, self._taken)
            if self._taken:
                return

    def _count(self, batch: list[Send], left: list[Send]) -> None:
        states = Counter(send.state for send in batch) - Counter(send.state for send in left)
        self.tally.sent += states[SendState.SENT] + states[SendState.CLAIMED]
        self.tally.failed += states[SendState.FAILED]

    def _note_success(self) -> None:
        self._limit = BATCH
        self._wait_seconds = self._retry_at = 0.0
        if self._complained_at is not None:
            self._complained_at = None
            logger.info("beat.recording_again waiting=%s lost=%s", self._waiting(), self.tally.lost)

    def _note_failure(self, error: Exception) -> None:
        first, longest = _RETRY_SECONDS
        self._wait_seconds = min(max(first, 2 * self._wait_seconds), longest)
        self._retry_at = time.monotonic() + self._wait_seconds
        self._is_repeated = True
        if _is_of_a_row(error) and self._taken:
            self._narrow_down(error)
        if self._complained_at is None or time.monotonic() >= self._complained_at + _COMPLAINT_SECONDS:
            self._complained_at = time.monotonic()
            details = type(error).__name__, str(error).strip(), self._waiting(), self.tally.lost
            logger.warning("beat.not_recording error=%s: %s waiting=%s lost=%s", *details)

    def _narrow_down(self, error: Exception) -> None:
        """One by one until the row that the database refuses stands alone; that one is dropped."""
        self._retry_at = 0.0
        if len(self._taken) > 1:
            self._queue.extendleft(reversed(self._taken[1:]))
            del self._taken[1:]
            self._limit = 1
            return
        (dropped,) = self._taken
        self._taken = []
        self.tally.dropped += 1
        details = dropped.beat_name, dropped.message_id, error
        logger.error("beat.send_dropped name=%r message=%s error=%s", *details, exc_info=error)


def _is_of_a_row(error: Exception) -> bool:
    """Whether a send's own values are to blame, and not the database or the way to it."""
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return True
    return not isinstance(error, psycopg.Error | OSError | QueueError)
