"""A batch as one statement, decided by the server: `sql/postgres/tick.sql`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row, scalar_row

from pg_queue.api import PostgresLeadership, dispatch_sql, wake_sql
from scheduler.domain import REPORT_TO
from scheduler.recurrence.intervals import LONGEST, SHORTEST
from scheduler.settings import scheduler_settings
from scheduler.statements import statements
from scheduler.tick.contract import EARLIEST, HANDFUL, Batch, Cursor, Fault, Pass, Tick, id_prefix, note_quarantined
from scheduler.tick.routed import once_per_settings, unsettled_sql
from scheduler.verdicts import Question, Verdicts

_SQL = statements("tick")
_ROW_FAULTS = ("22", "23", "P0001")
"""SQLSTATEs that a row's own values can cause: data exceptions, integrity violations, a trigger's RAISE."""


class PostgresTick(Tick):
    """Makes passes on the session that holds the lock."""

    FROM_START = ("-infinity", "00000000-0000-0000-0000-000000000000")

    def __init__(
        self,
        leadership: PostgresLeadership,
        *,
        batch: int | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
        is_shadow: bool = False,
    ) -> None:
        """See the contract. In shadow it decides on the schedules that Beat fires: it records what it would have fired,
        and enqueues nothing.
        """
        super().__init__(leadership, batch=batch, is_stopping=is_stopping)
        self._session = leadership.session
        self._plan_mode = ""
        self._session.execute(_SQL["configure"])
        self._is_shadow = is_shadow
        self._statements = fire_statements(is_shadow=is_shadow)

    @staticmethod
    def prepare() -> None:
        """See the contract."""
        for is_shadow in (False, True):
            fire_statements(is_shadow=is_shadow)

    def release_held(self) -> int:
        """See the contract."""
        with self._leadership.transaction():
            statement = _SQL["release_held"].format(is_unsettled=unsettled_sql())
            return self._session.execute(statement, {"limit": self._most}).rowcount

    def _run_batch(self, made: Pass, verdicts: Verdicts, cursor: Cursor, limit: int, *, is_careful: bool) -> Batch:
        self._plan_for(limit)
        made.at = made.at or self._clock()
        window = self._window(made.at, cursor, limit)
        answers = verdicts.on(self._evaluate(verdicts, self._survey(window)))
        began = time.perf_counter()
        with self._leadership.transaction() as now:
            done = self._write(window | answers | self._circumstances(now), is_careful)
            if done.queues and not self._is_shadow:
                self._session.execute(wake_sql(), {"queues": done.queues})
        self._finish(made, done, time.perf_counter() - began)
        return done

    def _plan_for(self, limit: int) -> None:
        mode = "force_generic_plan" if limit <= HANDFUL else "force_custom_plan"
        if mode != self._plan_mode:
            self._session.execute(_SQL["plan"], {"mode": mode})
            self._plan_mode = mode

    def _clock(self) -> datetime:
        with self._session.cursor(row_factory=scalar_row) as cursor:
            now = cursor.execute(_SQL["clock"]).fetchone()
        assert isinstance(now, datetime)
        return now

    def _survey(self, window: Mapping[str, Any]) -> list[Question]:
        return [
            Question(*row) for row in self._session.execute(self._statements.survey, window, prepare=True).fetchall()
        ]

    def _write(self, parameters: Mapping[str, Any], is_careful: bool) -> Batch:
        with self._session.cursor(row_factory=class_row(Batch)) as cursor:
            done = cursor.execute(
                self._statements.fire_carefully if is_careful else self._statements.fire, parameters, prepare=True
            ).fetchone()
        assert done is not None
        return done

    def _window(self, at: datetime, cursor: Cursor, limit: int) -> dict[str, Any]:
        return {
            "at": at,
            "after_at": cursor[0],
            "after_id": cursor[1],
            "limit": limit,
            "earliest": EARLIEST,
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

    def _quarantine_first(self, made: Pass, cursor: Cursor) -> Cursor:
        """See the contract. The row is held meanwhile."""
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

    def _quarantine(self, made: Pass, pipeline_id: Any, error: psycopg.Error) -> Cursor:
        text = f"{error.sqlstate}: {error.diag.message_primary or error}"
        row = self._session.execute(_SQL["quarantine"], {"pipeline_id": pipeline_id, "error": text}).fetchone()
        assert row is not None
        note_quarantined(made, {row[1]: text})
        return row[0], row[1]

    def _judge(self, error: Exception) -> Fault:
        assert isinstance(error, psycopg.Error)
        if _is_taken(error):
            return Fault.TAKEN
        if isinstance(error, psycopg.errors.QueryCanceled):
            return Fault.CUT_OFF
        return Fault.ROW if _is_row_fault(error) else Fault.DATABASE


@dataclass(frozen=True, slots=True, kw_only=True)
class FireStatements:
    """What a tick asks and says, composed for the schedules that it fires."""

    survey: str
    fire: str
    fire_carefully: str
    """Looks into the ledger first: only after another leader was met there."""
    lock_first: str


@once_per_settings
def fire_statements(*, is_shadow: bool = False) -> FireStatements:
    """The statements for the schedules that PG fires, or for the shadow of those that Beat fires.

    Made once per process, and best before it leads: the task registry imports the project's tasks, which is slow.
    """
    dispatch = dispatch_sql("firing")
    parts = {
        "firer": "'beat'" if is_shadow else "'pg'",
        "origin": "'shadow'" if is_shadow else "'schedule'",
        "is_shadow": str(is_shadow).lower(),
        "is_unsettled": "false" if is_shadow else unsettled_sql(),
        # An interval that Beat's sends have moved may come to an occurrence again.
        "on_conflict": "ON CONFLICT (schedule_id, scheduled_for, origin) DO NOTHING" if is_shadow else "",
        "enqueue": _SQL["enqueue_nothing"] if is_shadow else dispatch.enqueue,
        "relay": "" if is_shadow or not dispatch.publish else _SQL["relay"].format(events=dispatch.publish),
    }
    return FireStatements(
        survey=_SQL["survey"].format(**parts),
        fire=_SQL["fire"].format(**parts, is_taken="false"),
        fire_carefully=_SQL["fire"].format(**parts, is_taken=_SQL["is_taken"]),
        lock_first=_SQL["lock_first"].format(**parts),
    )


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
