"""A batch read, decided in Python and written back, in one transaction that has the file to itself."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pg_queue.api import SqliteLeadership, as_instant, as_text, dispatch_sql
from scheduler.domain import REPORT_TO, CatchUp, jitter_of
from scheduler.settings import scheduler_settings
from scheduler.statements import statements
from scheduler.tick.contract import Batch, Cursor, Fault, Pass, Tick, id_prefix, note_quarantined
from scheduler.tick.decisions import Circumstances, Decision, Due, decide, question_of
from scheduler.tick.routed import once_per_settings, unsettled_sql
from scheduler.verdicts import Question, Verdict, Verdicts

_SQL = statements("tick", "sqlite")
_ROW_FAULTS = ("SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_TOOBIG")
"""Beginnings of SQLite's names of errors that a row's own values can cause, and a trigger's RAISE."""
_MOST_SECONDS = 2**31 - 1
"""What a column of whole seconds holds on PostgreSQL."""
Answers = Mapping[Question, Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A due row: what decides, and what is written beside it."""

    stored_id: str
    stored_due_at: str
    organization_id: str
    queue: str
    jitter_seconds: int
    due: Due | None
    """None: it cannot be read."""
    error: str | None = None
    """Why."""

    @property
    def schedule_id(self) -> str:
        """As everybody writes it, if it is an id at all."""
        try:
            return str(UUID(self.stored_id))
        except (ValueError, AttributeError, TypeError):
            return str(self.stored_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """A due row, its decision, and the ids that its rows get."""

    row: _Row
    decision: Decision | None
    error: str | None
    run_id: str
    stretch_id: str

    @property
    def is_fired(self) -> bool:
        """A message is enqueued."""
        return self.decision is not None and self.decision.is_fired


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteStatements:
    """What a tick asks and says, composed."""

    due: str
    enqueue: str
    publish: str | None
    """Puts what is routed away into the outbox; None: nothing is."""
    release_held: str


class SqliteTick(Tick):
    """Makes passes on the leader's own connection."""

    FROM_START = ("", "")

    def __init__(
        self,
        leadership: SqliteLeadership,
        *,
        batch: int | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """See the contract."""
        super().__init__(leadership, batch=batch, is_stopping=is_stopping)
        self._session = leadership.session
        self._statements = sqlite_statements()

    @staticmethod
    def prepare() -> None:
        """See the contract."""
        sqlite_statements()

    def release_held(self) -> int:
        """See the contract."""
        with self._leadership.transaction():
            return self._session.execute(self._statements.release_held, {"limit": self._most}).rowcount

    def _run_batch(self, made: Pass, verdicts: Verdicts, cursor: Cursor, limit: int, *, is_careful: bool) -> Batch:
        made.at = made.at or datetime.now(UTC)
        given = self._circumstances(made.at)
        answers = self._answer(verdicts, given, cursor, limit)
        began = time.perf_counter()
        with self._leadership.transaction() as now:
            done = self._write(answers, given, now, cursor, limit)
        self._finish(made, done, time.perf_counter() - began)
        return done

    def _answer(self, verdicts: Verdicts, given: Circumstances, cursor: Cursor, limit: int) -> Answers:
        """What is to be evaluated among the next due rows, each distinct question once, without the write lock."""
        dues = [row.due for row in self._read(given.at, cursor, limit) if row.due is not None]
        questions = dict.fromkeys(question for due in dues if (question := question_of(due, given)) is not None)
        return {question: verdicts.learn(question) for question in self._evaluate(verdicts, list(questions))}

    def _read(self, at: datetime, cursor: Cursor, limit: int) -> list[_Row]:
        window = {"at": as_text(at), "after_at": cursor[0], "after_id": cursor[1], "limit": limit}
        return [_read_row(columns) for columns in self._session.execute(self._statements.due, window).fetchall()]

    def _write(self, answers: Answers, given: Circumstances, now: datetime, cursor: Cursor, limit: int) -> Batch:
        """Decide, advance, record and enqueue a batch. A row whose cadence was edited since it was surveyed has no
        answer, and is left for the next pass."""
        rows = self._read(given.at, cursor, limit)
        outcomes = self._without_taken(_decide_all(rows, answers, given, now))
        self._store(outcomes, as_text(now))
        return _sum_up(rows, outcomes)

    def _without_taken(self, outcomes: list[_Outcome]) -> list[_Outcome]:
        """Mark what the ledger has already: a leader before has recorded it, or a table was restored."""
        wanted = {
            outcome.row.stored_id: as_text(outcome.decision.latest)
            for outcome in outcomes
            if outcome.decision is not None and outcome.decision.is_clear and outcome.decision.latest is not None
        }
        found = self._session.execute(_SQL["taken"], {"occurrences": json.dumps(list(wanted.items()))}).fetchall()
        taken = {schedule_id for (schedule_id,) in found}
        return [
            replace(one, decision=replace(one.decision, is_taken=True))
            if one.decision is not None and one.row.stored_id in taken
            else one
            for one in outcomes
        ]

    def _store(self, outcomes: Sequence[_Outcome], now: str) -> None:
        term = self._leadership.term
        fired = [_fired(outcome, now, term) for outcome in outcomes if outcome.is_fired]
        self._session.executemany(_SQL["advance"], (_advanced(outcome, now) for outcome in outcomes))
        self._session.executemany(_SQL["fire"], fired)
        self._session.executemany(self._statements.enqueue, fired)
        if self._statements.publish is not None:
            self._session.executemany(self._statements.publish, fired)
        self._session.executemany(_SQL["pass_over"], _passed_over(outcomes, now, term))

    def _quarantine_first(self, made: Pass, cursor: Cursor) -> Cursor:
        """See the contract."""
        with self._leadership.transaction() as now:
            given = self._circumstances(made.at or now)
            row = next(iter(self._read(given.at, cursor, 1)), None)
            error = None if row is None else self._try_alone(given, now, cursor)
            if row is None or error is None:
                return cursor
            text = f"{error.sqlite_errorname}: {error}"
            parameters = {"schedule_id": row.stored_id, "error": text, "now": as_text(now)}
            self._session.execute(_SQL["quarantine"], parameters)
        note_quarantined(made, {row.schedule_id: text})
        return row.stored_due_at, row.stored_id

    def _try_alone(self, given: Circumstances, now: datetime, cursor: Cursor) -> sqlite3.Error | None:
        self._session.execute("SAVEPOINT alone")
        try:
            self._write(self._answer(Verdicts(), given, cursor, 1), given, now, cursor, 1)
        except sqlite3.Error as error:
            if self._judge(error) is not Fault.ROW:
                raise
            return error
        finally:
            if self._session.in_transaction:
                self._session.execute("ROLLBACK TO alone")
        return None

    def _judge(self, error: Exception) -> Fault:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_INTERRUPT":
            return Fault.CUT_OFF
        return Fault.ROW if name.startswith(_ROW_FAULTS) else Fault.DATABASE

    def _circumstances(self, at: datetime) -> Circumstances:
        conf = scheduler_settings()
        return Circumstances(
            at=at,
            grace_seconds=conf.grace_seconds,
            on_time_seconds=conf.on_time_seconds,
            led_until=self._leadership.previous_heartbeat_at,
            leads_since=self._leadership.since,
        )


@once_per_settings
def sqlite_statements() -> SqliteStatements:
    """Made once per process, and best before it leads: the task registry imports the project's tasks, which is slow."""
    is_unsettled, dispatch = unsettled_sql("sqlite"), dispatch_sql("firing", dialect="sqlite")
    return SqliteStatements(
        due=_SQL["due"].format(is_unsettled=is_unsettled),
        enqueue=_SQL["enqueue"].format(enqueue=dispatch.enqueue),
        publish=None if dispatch.publish is None else _SQL["enqueue"].format(enqueue=dispatch.publish),
        release_held=_SQL["release_held"].format(is_unsettled=is_unsettled),
    )


def _read_row(columns: tuple[Any, ...]) -> _Row:
    """SQLite keeps whatever it is given: what is no instant or no id becomes the row's error."""
    stored_id, *deciding, organization_id, queue, jitter_seconds = columns
    try:
        due, error = _read_due(deciding), None
        UUID(stored_id)
        _check_seconds("jitter_seconds", jitter_seconds)
        if not isinstance(queue, str):
            raise ValueError(f"queue: expected a text, got: {queue!r}")
    except (ValueError, TypeError, AttributeError, OverflowError) as unreadable:
        due, error = None, f"the row cannot be read: {unreadable}"
    return _Row(
        stored_id=stored_id,
        stored_due_at=deciding[4],
        organization_id=organization_id,
        queue=queue,
        jitter_seconds=jitter_seconds,
        due=due,
        error=error,
    )


def _read_due(columns: Sequence[Any]) -> Due:
    kind, cron_string, timezone, dialect, due_at, ends_at, beat_from, make_up_until, grace_seconds, *rest = columns
    catch_up, overlap, interval_seconds, is_last, is_blocked = rest
    if grace_seconds is not None:
        _check_seconds("grace_seconds", grace_seconds)
    return Due(
        kind=kind,
        cron_string=cron_string,
        timezone=timezone,
        dialect=dialect,
        due_at=as_instant(due_at),
        ends_at=_instant(ends_at),
        beat_from=_instant(beat_from),
        make_up_until=_instant(make_up_until),
        grace_seconds=grace_seconds,
        catch_up=catch_up,
        overlap=overlap,
        interval_seconds=interval_seconds,
        is_last=bool(is_last),
        is_blocked=bool(is_blocked),
    )


def _check_seconds(name: str, stored: Any) -> None:
    if not isinstance(stored, int) or not 0 <= stored <= _MOST_SECONDS:
        raise ValueError(f"{name}: expected a whole number from 0 to {_MOST_SECONDS}, got: {stored!r}")


def _decide_all(rows: Iterable[_Row], answers: Answers, given: Circumstances, now: datetime) -> list[_Outcome]:
    run_prefix, stretch_prefix = id_prefix(now), id_prefix(now)
    outcomes = []
    for number, row in enumerate(rows, start=1):
        decision, error = _decide(row, answers, given)
        if decision is not None or error is not None:
            ids = {"run_id": f"{run_prefix}{number:08x}", "stretch_id": f"{stretch_prefix}{number:08x}"}
            outcomes.append(_Outcome(row=row, decision=decision, error=error, **ids))
    return outcomes


def _decide(row: _Row, answers: Answers, given: Circumstances) -> tuple[Decision | None, str | None]:
    """The decision, or the error that sets the row aside; neither: it is left for the next pass."""
    if row.due is None:
        return None, row.error
    question = question_of(row.due, given)
    if question is not None and question not in answers:
        return None, None
    try:
        decision = decide(row.due, None if question is None else answers[question], given)
    except (ValueError, TypeError, OverflowError) as error:
        return None, f"{type(error).__name__}: {error}"
    return (decision, None) if decision.error is None else (None, decision.error)


def _advanced(outcome: _Outcome, now: str) -> dict[str, Any]:
    decision = outcome.decision
    return {
        "schedule_id": outcome.row.stored_id,
        "next_run_at": outcome.row.stored_due_at if decision is None else _text(decision.next_run_at),
        "is_fired": outcome.is_fired,
        "latest": None if decision is None else _text(decision.latest),
        "id": outcome.run_id,
        "hold": None if decision is None else decision.hold,
        "quarantined_at": now if decision is None else None,
        "error": outcome.error or "",
    }


def _fired(outcome: _Outcome, now: str, term: int) -> dict[str, Any]:
    """Of the ledger's row, and of the message."""
    row, latest = outcome.row, outcome.decision.latest if outcome.decision else None
    assert latest is not None
    jitter = jitter_of(UUID(row.stored_id), row.jitter_seconds)
    return {
        "id": outcome.run_id,
        "schedule_id": row.stored_id,
        "organization_id": row.organization_id,
        "latest": as_text(latest),
        "term": term,
        "now": now,
        "headers": json.dumps({"schedule_id": row.schedule_id, "scheduled_for": latest.isoformat()}),
        "report_to": REPORT_TO,
        "run_after": as_text(latest + jitter) if jitter else None,
    }


def _passed_over(outcomes: Iterable[_Outcome], now: str, term: int) -> Iterable[dict[str, Any]]:
    for outcome in outcomes:
        stretch = outcome.decision.stretch if outcome.decision else None
        if stretch is not None:
            yield {
                "id": outcome.stretch_id,
                "schedule_id": outcome.row.stored_id,
                "organization_id": outcome.row.organization_id,
                "first": as_text(stretch.first),
                "last": _text(stretch.last),
                "occurrences": stretch.occurrences,
                "state": stretch.state,
                "term": term,
                "now": now,
            }


def _sum_up(rows: Sequence[_Row], outcomes: Sequence[_Outcome]) -> Batch:
    decisions = [outcome.decision for outcome in outcomes if outcome.decision is not None]
    last = rows[-1] if rows else None
    return Batch(
        last_at=None if last is None else last.stored_due_at,
        last_id=None if last is None else last.stored_id,
        seen=len(rows),
        advanced=len(outcomes),
        fired=sum(one.is_fired for one in decisions),
        coalesced=sum(one.is_clear and one.before is not None and one.catch_up == CatchUp.LATEST for one in decisions),
        expired=sum(one.is_alive and not one.is_in_grace for one in decisions),
        skipped=sum(one.is_skipped for one in decisions),
        held=sum(one.is_held for one in decisions),
        taken=sum(one.is_clear and one.is_taken for one in decisions),
        queues=sorted({outcome.row.queue for outcome in outcomes if outcome.is_fired}),
        quarantined={outcome.row.schedule_id: outcome.error for outcome in outcomes if outcome.error is not None},
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else as_instant(text)


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else as_text(instant)
