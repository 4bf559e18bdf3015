"""What is left of a run, as plain values: the ledger, Beat's sends, the hand-overs, the changes, what was executed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from tests.proof.cast import Fault

Row = TypeVar("Row")
FIRED = frozenset({"fired", "running", "succeeded", "failed"})
CADENCE = frozenset({"expression", "kind", "timezone", "dialect", "starts_at"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """As it was created, and where it stands in the end; `is_enabled_in_beat` None: Beat has no row of it."""

    id: UUID
    kind: str
    expression: str
    created_at: datetime
    firer: str = "beat"
    is_enabled: bool = True
    hold: str | None = None
    beat_from: datetime | None = None
    is_enabled_in_beat: bool | None = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A row of the ledger."""

    id: UUID
    schedule_id: UUID
    scheduled_for: datetime
    span_end: datetime | None = None
    occurrences: int | None = 1
    firer: str = "pg"
    state: str = "succeeded"
    reason: str = ""

    @property
    def is_fired(self) -> bool:
        """Whether it became a message."""
        return self.state in FIRED

    @property
    def last(self) -> datetime:
        """Its last occurrence."""
        return self.span_end or self.scheduled_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One of Beat's."""

    schedule_id: UUID | None
    message_id: str
    scheduled_for: datetime | None
    sent_at: datetime
    is_first: bool = True
    state: str = "sent"
    is_of_the_living: bool = False
    """Whether the process that made it lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """One change of a firer."""

    schedule_id: UUID
    to_firer: str
    requested_at: datetime
    state: str = "done"
    method: str = "canary"
    ended_at: datetime | None = None
    beat_from: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An edit, a pause, a resume, a promotion."""

    schedule_id: UUID
    at: datetime
    fields: dict[str, Any]

    @property
    def expressions(self) -> tuple[str, str] | None:
        """Before and after; None: when it occurs did not change."""
        found = self.fields.get("expression")
        return (found[0], found[1]) if found else None

    @property
    def is_switch(self) -> bool:
        """Whether it paused or resumed."""
        return "enabled" in self.fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution of a message, by a worker of Celery or of PG."""

    firer: str
    message_id: str
    beat_name: str
    published_at: datetime | None
    """When Beat sent it; None: PG fired it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All of it."""

    until: datetime
    """What occurs later is not judged."""
    schedules: Sequence[Schedule]
    runs: Sequence[Run] = ()
    sends: Sequence[Send] = ()
    handovers: Sequence[Handover] = ()
    changes: Sequence[Change] = ()
    executions: Sequence[Execution] = ()
    faults: Sequence[Fault] = ()
    canaries: int = 0
    """That are left in Beat's table."""
    worker_kills: int = 0


def read(url: str, until: datetime, faults: Sequence[Fault], worker_kills: int) -> Evidence:
    """What is stored."""
    with psycopg.connect(url, autocommit=True) as session:
        return Evidence(
            until=until,
            schedules=_all(session, Schedule, _SCHEDULES),
            runs=_all(session, Run, _RUNS),
            sends=_all(session, Send, _SENDS),
            handovers=_all(session, Handover, _HANDOVERS),
            changes=_all(session, Change, _CHANGES),
            executions=_all(session, Execution, _EXECUTIONS),
            faults=faults,
            canaries=_all(session, _Count, _CANARIES)[0].count,
            worker_kills=worker_kills,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Count:
    count: int = field()


def _all(session: psycopg.Connection[Any], kind: type[Row], query: str) -> list[Row]:
    with session.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query.encode()).fetchall()


_SCHEDULES = """
    SELECT pipeline_id AS id, kind, schedule.created_at, firer, schedule.enabled AS is_enabled, hold, beat_from,
           task.enabled AS is_enabled_in_beat,
           coalesce((
               SELECT fields->'expression'->>0 FROM scheduler_schedulechange
               WHERE schedule_id = pipeline_id AND fields ? 'expression' ORDER BY changed_at LIMIT 1
           ), cron_string) AS expression
    FROM scheduler_pgperiodicschedule AS schedule
    LEFT JOIN django_celery_beat_periodictask AS task ON task.name = schedule.beat_name
    ORDER BY pipeline_id
"""
_RUNS = """
    SELECT id, schedule_id, scheduled_for, span_end, occurrences, firer, state, coalesce(error->>'type', '') AS reason
    FROM scheduler_schedulerun WHERE origin = 'schedule' ORDER BY scheduled_for
"""
_SENDS = """
    SELECT schedule_id, message_id, scheduled_for, sent_at, is_first, state,
           process_id IN (
               SELECT id FROM scheduler_beatprocess
               WHERE stopped_at IS NULL AND heartbeat_at > clock_timestamp() - interval '10 s'
           ) AS is_of_the_living
    FROM scheduler_beatsend ORDER BY id
"""
_HANDOVERS = """
    SELECT schedule_id, to_firer, requested_at, state, method, ended_at, beat_from, reason
    FROM scheduler_handover ORDER BY id
"""
_CHANGES = "SELECT schedule_id, changed_at AS at, fields FROM scheduler_schedulechange ORDER BY changed_at, id"
_EXECUTIONS = "SELECT firer, message_id, beat_name, published_at FROM proof_execution ORDER BY id"
_CANARIES = "SELECT count(*) FROM django_celery_beat_periodictask WHERE name LIKE 'downbeat-canary%'"
