"""One pass of the leader: find what is due, fire it, advance it.

A pass is a row of batches, oldest first. What Python has to evaluate for a batch is evaluated before its transaction,
which is one on the leader's session, opened by its stamp, with the same number of statements however many rows it
fires. Its one writing statement inserts messages and ledger rows from the rows that it has just advanced, so the three
cannot disagree. docs/explanation/tick.md tells the races.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import psycopg
from psycopg.rows import class_row, scalar_row

from pg_queue.api import PostgresLeadership, enqueue_sql, is_unsettled_sql, wake_sql
from scheduler.domain import REPORT_TO
from scheduler.recurrence.intervals import LONGEST, SHORTEST
from scheduler.settings import scheduler_settings
from scheduler.statements import statements
from scheduler.verdicts import Question, Verdicts

logger = logging.getLogger(__name__)

_SQL = statements("tick")
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_FROM_START = ("-infinity", "00000000-0000-0000-0000-000000000000")
_FIRST_BATCH = 1000
"""A leader begins with smaller batches, and doubles them while they are quick."""
_HANDFUL = 100
"""Most rows of a batch whose plan does not depend on how many they are."""
_BATCH_SECONDS = 1.0
"""Batches are made smaller until they take no longer; after 3 s (`pg_queue.leader`) the server cuts one off."""
_EVALUATION_SECONDS = 1.0
"""How long expressions are evaluated between two stamps."""
_ROW_FAULTS = ("22", "23", "P0001")
"""SQLSTATEs that a row's own values can cause: data exceptions, integrity violations, a trigger's RAISE."""


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
class _Batch:
    """The answer of the statement `fire`."""

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
    quarantined: dict[str, str] | None


class Tick:
    """Makes passes for one leadership. Not safe between threads."""

    def __init__(
        self,
        leadership: PostgresLeadership,
        *,
        batch: int | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
        is_shadow: bool = False,
    ) -> None:
        """Prepare the leader's session. `batch` is the most schedules in a transaction; None: `TICK_BATCH`.

        `is_stopping` is asked at every batch, and every second of evaluation: a pass ends early where it says so. In
        shadow it decides on the schedules that Beat fires: it records what it would have fired, and enqueues nothing.
        """
        self._is_stopping = is_stopping
        self._leadership = leadership
        self._session = leadership.session
        self._most = batch or scheduler_settings().tick_batch
        self._limit = min(self._most, _FIRST_BATCH)
        self._plan_mode = ""
        self._session.execute(_SQL["configure"])
        self._is_shadow = is_shadow
        self._statements = fire_statements(is_shadow=is_shadow)

    def run(self, at: datetime | None = None) -> Pass:
        """Fire everything due at `at`, and return what was done; None: now, by the database's clock.

        Less than everything where a stop was asked for: each batch is whole.

        Commits batch by batch. A row that cannot be fired is quarantined, and the rest go on.

        Raises:
            LeadershipLost: the term is over; the batch in hand was rolled back.
            psycopg.Error: the session or the server is in trouble; likewise.
        """
        made = Pass(at=at)
        verdicts, cursor, is_careful = Verdicts(), _FROM_START, False
        while True:
            # Most passes fire a handful: they are planned once for all. What is more goes on in batches with plans of
            # their own.
            limit = min(self._limit, _HANDFUL) if cursor == _FROM_START else self._limit
            try:
                done = self._run_batch(made, verdicts, cursor, limit, is_careful=is_careful)
            except psycopg.Error as error:
                if _is_taken(error):
                    is_careful = True
                elif isinstance(error, psycopg.errors.QueryCanceled) and limit > 1:
                    self._limit = max(1, limit // 4)  # the leader's time limit for a batch: the session itself is sound
                elif not _is_row_fault(error):
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

    def release_held(self) -> int:
        """Let go of schedules whose run before has ended; how many. A transaction of its own, at most a batch.

        Raises: as `run` does.
        """
        with self._leadership.transaction():
            statement = _SQL["release_held"].format(is_unsettled=is_unsettled_sql("last_run_id"))
            return self._session.execute(statement, {"limit": self._most}).rowcount

    def _run_batch(
        self, made: Pass, verdicts: Verdicts, cursor: tuple[str, str], limit: int, *, is_careful: bool
    ) -> _Batch:
        self._plan_for(limit)
        made.at = made.at or self._clock()
        window = self._window(made.at, cursor, limit)
        answers = verdicts.on(self._evaluate(verdicts, self._survey(window)))
        began = time.perf_counter()
        with self._leadership.transaction() as now:
            done = self._write(window | answers | self._circumstances(now), is_careful)
            if done.queues and not self._is_shadow:
                self._session.execute(wake_sql(), {"queues": done.queues})
        _add(made, done)
        self._adapt(made, time.perf_counter() - began)
        return done

    def _plan_for(self, limit: int) -> None:
        mode = "force_generic_plan" if limit <= _HANDFUL else "force_custom_plan"
        if mode != self._plan_mode:
            self._session.execute(_SQL["plan"], {"mode": mode})
            self._plan_mode = mode

    def _clock(self) -> datetime:
        with self._session.cursor(row_factory=scalar_row) as cursor:
            now = cursor.execute(_SQL["clock"]).fetchone()
        assert isinstance(now, datetime)
        return now

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

    def _survey(self, window: Mapping[str, Any]) -> list[Question]:
        return [
            Question(*row) for row in self._session.execute(self._statements.survey, window, prepare=True).fetchall()
        ]

    def _write(self, parameters: Mapping[str, Any], is_careful: bool) -> _Batch:
        with self._session.cursor(row_factory=class_row(_Batch)) as cursor:
            done = cursor.execute(
                self._statements.fire_carefully if is_careful else self._statements.fire, parameters, prepare=True
            ).fetchone()
        assert done is not None
        return done

    def _window(self, at: datetime, cursor: tuple[str, str], limit: int) -> dict[str, Any]:
        return {
            "at": at,
            "after_at": cursor[0],
            "after_id": cursor[1],
            "limit": limit,
            "earliest": _EARLIEST,
            "grace_seconds": scheduler_settings().grace_seconds,
            "on_time_seconds": scheduler_settings().on_time_seconds,
        }

    def _circumstances(self, now: datetime) -> dict[str, Any]:
        led_until = self._leadership.previous_heartbeat_at
        return {
            "shortest_seconds": SHORTEST.total_seconds() / 1000,
            "longest_seconds": LONGEST.total_seconds(),
            "term": self._leadership.term,
            "report_to": REPORT_TO,
            "led_until": led_until or "-infinity",
            "leads_since": self._leadership.since,
            "id_prefix": id_prefix(now),
            "stretch_id_prefix": id_prefix(now),
        }

    def _quarantine_first(self, made: Pass, cursor: tuple[str, str]) -> tuple[str, str]:
        """Try the next row alone, holding it, and set it aside if it fails: the row blamed is the row that failed."""
        with self._leadership.transaction() as now:
            window = self._window(made.at or now, cursor, 1)
            with self._session.cursor(row_factory=scalar_row) as sql:
                pipeline_id = sql.execute(self._statements.lock_first, window).fetchone()
            error = None if pipeline_id is None else self._try_alone(window, now)
            return cursor if error is None else self._quarantine(made, pipeline_id, error)

    def _try_alone(self, window: dict[str, Any], now: datetime) -> psycopg.Error | None:
        try:
            with self._session.transaction(force_rollback=True):
                self._write(window | Verdicts().on(self._survey(window)) | self._circumstances(now), True)
                self._session.execute(_SQL["check_deferred"])
        except psycopg.Error as error:
            if _is_taken(error) or not _is_row_fault(error):
                raise
            return error
        return None

    def _quarantine(self, made: Pass, pipeline_id: Any, error: psycopg.Error) -> tuple[str, str]:
        text = f"{error.sqlstate}: {error.diag.message_primary or error}"
        row = self._session.execute(_SQL["quarantine"], {"pipeline_id": pipeline_id, "error": text}).fetchone()
        assert row is not None
        _note_quarantined(made, {row[1]: text})
        return row[0], row[1]

    def _adapt(self, made: Pass, seconds: float) -> None:
        made.batch_seconds.append(seconds)
        if seconds > _BATCH_SECONDS:
            self._limit = max(1, int(self._limit * _BATCH_SECONDS / seconds))
        elif seconds < _BATCH_SECONDS / 2:
            self._limit = min(self._most, self._limit * 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class FireStatements:
    """What a tick asks and says, composed for the schedules that it fires."""

    survey: str
    fire: str
    fire_carefully: str
    """Looks into the ledger first: only after another leader was met there."""
    lock_first: str


@cache
def fire_statements(*, is_shadow: bool = False) -> FireStatements:
    """The statements for the schedules that PG fires, or for the shadow of those that Beat fires.

    Made once per process, and best before it leads: the task registry imports the project's tasks, which is slow.
    """
    parts = {
        "firer": "'beat'" if is_shadow else "'pg'",
        "origin": "'shadow'" if is_shadow else "'schedule'",
        "is_shadow": str(is_shadow).lower(),
        "is_unsettled": "false" if is_shadow else is_unsettled_sql("last_run_id"),
        # An interval that Beat's sends have moved may come to an occurrence again.
        "on_conflict": "ON CONFLICT (schedule_id, scheduled_for, origin) DO NOTHING" if is_shadow else "",
        "enqueue": _SQL["enqueue_nothing"] if is_shadow else enqueue_sql("firing"),
    }
    return FireStatements(
        survey=_SQL["survey"].format(**parts),
        fire=_SQL["fire"].format(**parts, is_taken="false"),
        fire_carefully=_SQL["fire"].format(**parts, is_taken=_SQL["is_taken"]),
        lock_first=_SQL["lock_first"].format(**parts),
    )


def id_prefix(at: datetime) -> str:
    """The first 24 hexadecimal digits of version 7 ids (RFC 9562): milliseconds, then 42 random bits.

    The 8 digits that follow count the rows of a batch (section 6.2, a counter of fixed length): ids of one batch are
    in order, and cost no call of a random source each.
    """
    milliseconds = int(at.timestamp() * 1000)
    return f"{milliseconds:012x}7{secrets.randbits(12):03x}{0x8 | secrets.randbits(2):x}{secrets.randbits(28):07x}"


def _add(made: Pass, done: Any) -> None:
    made.seen += done.seen
    made.advanced += done.advanced
    made.fired += done.fired
    made.coalesced += done.coalesced
    made.expired += done.expired
    made.skipped += done.skipped
    made.held += done.held
    made.taken += done.taken
    _note_quarantined(made, done.quarantined or {})


def _note_quarantined(made: Pass, errors: Mapping[str, str]) -> None:
    made.quarantined.update(errors)
    for schedule_id, error in errors.items():
        logger.error("tick.quarantined schedule=%s error=%r", schedule_id, error)


def _is_taken(error: psycopg.Error) -> bool:
    """Another leader has recorded an occurrence of this batch. The constraint bears its partition's name."""
    return (
        isinstance(error, psycopg.errors.UniqueViolation)
        and (error.diag.table_name or "").startswith("scheduler_schedulerun")
        and not (error.diag.constraint_name or "").endswith("_pkey")
    )


def _is_row_fault(error: psycopg.Error) -> bool:
    if isinstance(error, psycopg.errors.CheckViolation) and not error.diag.constraint_name:
        return False  # the ledger lacks the partition: that is no row's fault
    return (error.sqlstate or "").startswith(_ROW_FAULTS)
