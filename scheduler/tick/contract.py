"""What a tick promises on every database, and the pass, which is the same on each."""

from __future__ import annotations

import logging
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto

from pg_queue.api import SESSION_ERRORS, Leadership
from scheduler.settings import scheduler_settings
from scheduler.verdicts import Question, Verdicts

logger = logging.getLogger(__name__)

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
"""No schedule is due before it: a row that says so was not written by us."""
_FIRST_BATCH = 1000
"""A leader begins with smaller batches, and doubles them while they are quick."""
HANDFUL = 100
"""Most rows of a pass's first batch: most passes fire no more."""
_BATCH_SECONDS = 1.0
"""Batches are made smaller until they take no longer; after 3 s (`pg_queue.leader`) one is cut off."""
_EVALUATION_SECONDS = 1.0
"""How long expressions are evaluated between two stamps."""

Cursor = tuple[str, str]
"""Where a batch ended: the last row's due instant and its id, as the database writes them."""


@dataclass(slots=True, kw_only=True)
class Pass:
    """What one pass did, in schedules."""

    at: datetime | None = None
    """The instant that decided what was due; None: the pass did not get that far."""
    seen: int = 0
    advanced: int = 0
    fired: int = 0
    coalesced: int = 0
    """Fired, standing in for occurrences that were missed."""
    expired: int = 0
    skipped: int = 0
    """Not fired, because the run before had not ended."""
    held: int = 0
    """Left due until the run before has ended."""
    taken: int = 0
    """Occurrences that another leader had recorded already."""
    quarantined: dict[str, str] = field(default_factory=dict)
    """Errors by schedule id."""
    batch_seconds: list[float] = field(default_factory=list)
    """How long each committed batch took."""

    @property
    def has_moved(self) -> bool:
        """Whether any schedule was advanced or set aside."""
        return self.advanced > 0 or bool(self.quarantined)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one batch did; the numbers as `Pass` has them."""

    last_at: str | None
    last_id: str | None
    seen: int
    advanced: int
    fired: int
    coalesced: int
    expired: int
    skipped: int
    held: int
    taken: int
    queues: list[str] | None
    """Those that messages went to."""
    quarantined: dict[str, str] | None


class Fault(Enum):
    """Why a batch failed."""

    TAKEN = auto()
    """Another leader has recorded an occurrence of it."""
    CUT_OFF = auto()
    """It took longer than the leader may."""
    ROW = auto()
    """A row's own values."""
    DATABASE = auto()
    """The session or the database is in trouble: no row's fault."""


class Tick(ABC):
    """Makes passes for one leadership. Not safe between threads."""

    FROM_START: Cursor
    """Before every row."""

    def __init__(
        self, leadership: Leadership, *, batch: int | None = None, is_stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """Prepare the leader's session. `batch` is the most schedules in a transaction; None: `TICK_BATCH`.

        `is_stopping` is asked at every batch, and every second of evaluation: a pass ends early where it says so.
        """
        self._leadership = leadership
        self._is_stopping = is_stopping
        self._most = batch or scheduler_settings().tick_batch
        self._limit = min(self._most, _FIRST_BATCH)

    @staticmethod
    @abstractmethod
    def prepare() -> None:
        """Do what is needed once per process."""

    def run(self, at: datetime | None = None) -> Pass:
        """Fire everything due at `at`, and return what was done; None: now, by the database's clock.

        Less than everything where a stop was asked for: each batch is whole.

        Commits batch by batch. A row that cannot be fired is quarantined, and the rest go on.

        Raises:
            LeadershipLost: the term is over; the batch in hand was rolled back.
            One of `SESSION_ERRORS`: the session or the database is in trouble; likewise.
        """
        made = Pass(at=at)
        verdicts, cursor, is_careful = Verdicts(), self.FROM_START, False
        while True:
            # Most passes fire a handful: they are planned once for all. What is more goes on in batches with plans of
            # their own.
            limit = min(self._limit, HANDFUL) if cursor == self.FROM_START else self._limit
            try:
                done = self._run_batch(made, verdicts, cursor, limit, is_careful=is_careful)
            except SESSION_ERRORS as error:
                fault = self._judge(error)
                if fault is Fault.TAKEN:
                    is_careful = True
                elif fault is Fault.CUT_OFF and limit > 1:
                    self._limit = max(1, limit // 4)  # the leader's time limit for a batch: the session itself is sound
                elif fault is not Fault.ROW:
                    raise
                elif limit > 1:
                    self._limit = limit // 2
                else:
                    cursor = self._quarantine_first(made, cursor)
                self._leadership.stamp()  # the batch's own was rolled back with it
                if self._is_stopping():
                    return made
                continue
            if done.last_at is not None and done.last_id is not None:
                cursor = (done.last_at, done.last_id)
            if done.seen < limit or self._is_stopping():
                return made

    @abstractmethod
    def release_held(self) -> int:
        """Let go of schedules whose run before has ended; how many. A transaction of its own, at most a batch.

        Raises: as `run` does.
        """

    @abstractmethod
    def _run_batch(self, made: Pass, verdicts: Verdicts, cursor: Cursor, limit: int, *, is_careful: bool) -> Batch:
        """Fire at most `limit` rows after `cursor`, in one transaction, and add it to `made`. `is_careful`: look into
        the ledger first, because another leader was met there."""

    @abstractmethod
    def _quarantine_first(self, made: Pass, cursor: Cursor) -> Cursor:
        """Try the next row alone, and set it aside if it fails: the row blamed is the row that failed."""

    @abstractmethod
    def _judge(self, error: Exception) -> Fault:
        """Whose fault an error of the session is."""

    def _evaluate(self, verdicts: Verdicts, questions: list[Question]) -> list[Question]:
        """Find the verdicts, outside of any transaction: thousands of long expressions take longer than the server lets
        one idle. Those answered: all, unless a stop was asked for; a row without a verdict is left for the next pass.
        """
        stamped = time.perf_counter()
        for number, question in enumerate(questions):
            if time.perf_counter() - stamped > _EVALUATION_SECONDS:
                if self._is_stopping():
                    return questions[:number]
                self._leadership.stamp()
                stamped = time.perf_counter()
            verdicts.learn(question)
        return questions

    def _finish(self, made: Pass, done: Batch, seconds: float) -> None:
        """Add a committed batch to the pass, and choose the size of the next."""
        _add(made, done)
        made.batch_seconds.append(seconds)
        if seconds > _BATCH_SECONDS:
            self._limit = max(1, int(self._limit * _BATCH_SECONDS / seconds))
        elif seconds < _BATCH_SECONDS / 2:
            self._limit = min(self._most, self._limit * 2)


def id_prefix(at: datetime) -> str:
    """The first 24 hexadecimal digits of version 7 ids (RFC 9562): milliseconds, then 42 random bits.

    The 8 digits that follow count the rows of a batch (section 6.2, a counter of fixed length): ids of one batch are
    in order, and cost no call of a random source each.
    """
    milliseconds = int(at.timestamp() * 1000)
    return f"{milliseconds:012x}7{secrets.randbits(12):03x}{0x8 | secrets.randbits(2):x}{secrets.randbits(28):07x}"


def note_quarantined(made: Pass, errors: Mapping[str, str]) -> None:
    """Add schedules that were set aside to the pass, and say so."""
    made.quarantined.update(errors)
    for schedule_id, error in errors.items():
        logger.error("tick.quarantined schedule=%s error=%r", schedule_id, error)


def _add(made: Pass, done: Batch) -> None:
    made.seen += done.seen
    made.advanced += done.advanced
    made.fired += done.fired
    made.coalesced += done.coalesced
    made.expired += done.expired
    made.skipped += done.skipped
    made.held += done.held
    made.taken += done.taken
    note_quarantined(made, done.quarantined or {})
