"""The ledger's upkeep, as duties of the reaper: outcomes carried in, months added ahead, what is old forgotten."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import takewhile
from operator import itemgetter
from typing import TypeVar
from uuid import UUID

from django.db import connections, transaction
from psycopg import sql

from pg_queue.api import Duty, Message, NewMessage, take_outcomes
from scheduler import beat
from scheduler.dialect import is_sqlite, own_statements
from scheduler.domain import REPORT_TO, RunOrigin, RunState
from scheduler.settings import scheduler_settings
from scheduler.statements import statements
from scheduler.writeback import PostgresWriting, SqliteWriting, Writing, Written

logger = logging.getLogger(__name__)

_SQL = statements("ledger")

PREFIX = "scheduler_schedulerun_y"
MONTHS_AHEAD = 3
_BEAT = statements("beat_sends")

Some = TypeVar("Some", Message, NewMessage)


def ledger_duties() -> list[Duty]:
    """The scheduler's duties. Any number of processes may do them at once."""
    conf = scheduler_settings()
    batch = conf.writeback_batch
    duties = [
        Duty(name="write_back", every_seconds=conf.writeback_seconds, run=write_back, batch=batch),
        Duty(name="forget_changes", every_seconds=3600, run=forget_changes, batch=batch),
    ]
    if is_sqlite():  # one table, and nothing of Beat's
        return [*duties, Duty(name="forget_runs", every_seconds=3600, run=forget_runs, batch=batch)]
    return [
        *duties,
        Duty(name="add_ledger_months", every_seconds=3600, run=add_months),
        Duty(name="drop_ledger_months", every_seconds=3600, run=drop_months),
        Duty(name="forget_unplaced_runs", every_seconds=3600, run=forget_unplaced, batch=batch),
        Duty(name="forget_mirror_failures", every_seconds=3600, run=forget_mirror_failures, batch=batch),
        Duty(name="forget_catches", every_seconds=3600, run=forget_catches, batch=batch),
    ]


def beat_duties() -> list[Duty]:
    """The duties for what is known of Celery Beat."""
    batch = scheduler_settings().writeback_batch
    duties = [
        Duty(name="forget_beat_sends", every_seconds=3600, run=forget_beat_sends, batch=batch),
        Duty(name="forget_beat_processes", every_seconds=3600, run=forget_beat_processes, batch=batch),
        Duty(name="forget_drift", every_seconds=3600, run=forget_drift, batch=batch),
    ]
    if beat.is_installed():  # else its table may not be there
        duties.append(Duty(name="forget_links", every_seconds=3600, run=forget_links, batch=batch))
    return duties


def write_back() -> int:
    """Carry one batch of outcomes from the queue into the ledger, in one transaction; how many were taken.

    A run that is final already keeps what it says, but for a failed one whose dead letter was replayed.
    """
    conf = scheduler_settings()
    with transaction.atomic(using=conf.database):
        taken = take_outcomes(REPORT_TO, limit=conf.writeback_batch)
        write_outcomes(taken)
    return len(taken)


def write_outcomes(messages: Sequence[Message]) -> None:
    """Carry outcomes into the ledger. Joins the caller's transaction. Done twice, it is as if done once."""
    outcomes = list(_placed(messages))
    if not outcomes:
        return
    writing = _writing()
    written = writing.write(outcomes)
    if len(written) < len(outcomes):
        logger.warning("ledger.outcomes_not_placed count=%s", len(outcomes) - len(written))
    _count_failures(writing, written)


def note_relayed(messages: Sequence[NewMessage], has_outcomes: bool) -> None:
    """These runs were taken by the system that their queue is routed to. Joins the caller's transaction."""
    if placed := list(_placed(messages)):
        _writing().note_relayed(placed, has_outcomes=has_outcomes)


def _writing() -> Writing:
    return SqliteWriting() if is_sqlite() else PostgresWriting()


def add_months() -> int:
    """Make partitions for this month and those ahead, where they are missing; how many were made.

    What fell into the default partition meanwhile moves into its month.
    """
    return sum(_add_month(first) for first in _months_ahead(_today()))


def drop_months() -> int:
    """Drop the partitions whose last day is older than the retention; how many were dropped.

    A stretch that ends within the retention moves into the default partition.
    """
    oldest = _today() - timedelta(days=scheduler_settings().ledger_retention_days)
    return sum(_drop_month(name, oldest) for name, end in _known_months() if end <= oldest)


def forget_unplaced() -> int:
    """Delete one batch of old runs that lie in no month's partition; a stretch is as old as its end."""
    return _forget(_SQL["forget_default"], scheduler_settings().ledger_retention_days)


def forget_runs() -> int:
    """Delete one batch of old runs from a ledger without months, as SQLite's is; a stretch is as old as its end."""
    return _forget(own_statements("ledger")["forget_runs"], scheduler_settings().ledger_retention_days)


def forget_changes() -> int:
    """Delete one batch of old notes of who changed a schedule, which are kept as long as its runs."""
    return _forget(own_statements("ledger")["forget_changes"], scheduler_settings().ledger_retention_days)


def forget_mirror_failures() -> int:
    """Delete one batch of old mirror failures."""
    return _forget(_SQL["forget_mirror_failures"], scheduler_settings().mirror_failure_retention_days)


def forget_beat_sends() -> int:
    """Delete one batch of old sends of Celery Beat."""
    return _forget(_BEAT["forget_sends"], scheduler_settings().ledger_retention_days)


def forget_beat_processes() -> int:
    """Delete one batch of Beat processes that have been gone for as long; their sends are forgotten by then, too."""
    return _forget(_BEAT["forget_processes"], scheduler_settings().ledger_retention_days)


def forget_drift() -> int:
    """Delete one batch of old differences from Beat's rows that are repaired, which are kept as long as the runs."""
    return _forget(statements("beat_links")["forget_drift"], scheduler_settings().ledger_retention_days)


def forget_links() -> int:
    """Delete one batch of links whose schedule and row in Beat are gone, and the notes of that, too."""
    return _forget(statements("beat_links")["forget_links"], scheduler_settings().ledger_retention_days)


def forget_catches() -> int:
    """Delete one batch of old notes of what the guard of Beat's rows undid, which are kept as long as the runs."""
    return _forget(_SQL["forget_catches"], scheduler_settings().ledger_retention_days)


def partition_name(first: date) -> str:
    """The name of a month's partition, such as `scheduler_schedulerun_y2026m11`."""
    return f"{PREFIX}{first:%Y}m{first:%m}"


def _placed(messages: Iterable[Some]) -> Iterator[tuple[Some, datetime]]:
    for message in messages:
        try:
            yield message, _occurrence(message)
        except (KeyError, TypeError, ValueError):
            logger.error("ledger.outcome_without_run message=%s headers=%r", message.id, message.headers)


def _occurrence(message: Message | NewMessage) -> datetime:
    scheduled_for = datetime.fromisoformat(message.headers["scheduled_for"])
    if scheduled_for.utcoffset() is None:
        raise ValueError("a naive instant")
    return scheduled_for


def _count_failures(writing: Writing, written: Sequence[Written]) -> None:
    """Bring the schedules' failures in a row up to date, where they are counted."""
    ends: dict[UUID, list[bool]] = {}
    for schedule_id, origin, state, _ in sorted(written, key=itemgetter(3)):
        if origin == RunOrigin.SCHEDULE:
            ends.setdefault(schedule_id, []).append(state == RunState.FAILED)
    counted = writing.hold_counted(list(ends))
    if counted:
        writing.count_failures(
            {
                schedule_id: (len(list(takewhile(bool, reversed(ends[schedule_id])))), not all(ends[schedule_id]))
                for schedule_id in counted
            }
        )


def _today() -> date:
    with connections[scheduler_settings().database].cursor() as cursor:
        cursor.execute(_SQL["today"])
        today: date = cursor.fetchone()[0]
    return today


def _months_ahead(today: date) -> Iterator[date]:
    first = today.replace(day=1)
    for _ in range(MONTHS_AHEAD + 1):
        yield first
        first = _following(first)


def _following(first: date) -> date:
    return (first + timedelta(days=32)).replace(day=1)


def _known_months() -> list[tuple[str, date]]:
    """Monthly partitions by name, with the first day after each; others that somebody attached are not ours."""
    with connections[scheduler_settings().database].cursor() as cursor:
        cursor.execute(_SQL["partitions"])
        names = [name for name, _ in cursor.fetchall() if name.startswith(PREFIX)]
    return [(name, _following(date(int(name[-7:-3]), int(name[-2:]), 1))) for name in names]


def _add_month(first: date) -> int:
    name = partition_name(first)
    if name in dict(_known_months()):
        return 0
    parts = {
        "name": sql.Identifier(name),
        "first": sql.Literal(f"{first} 00:00:00+00"),
        "end": sql.Literal(f"{_following(first)} 00:00:00+00"),
    }
    return _alter(["lock_ledger", "create_partition", "lock_default", "move_from_default", "attach_partition"], parts)


def _drop_month(name: str, oldest: date) -> int:
    parts = {
        "name": sql.Identifier(name),
        "index": sql.Identifier(f"{name}_stretches"),
        "oldest": sql.Literal(f"{oldest} 00:00:00+00"),
    }
    # Two transactions: the first may take its time, the second locks the whole ledger.
    drop = ["detach_partition", "keep_stretches", "drop_partition"]
    return _alter(["index_stretches"], parts) and _alter(drop, parts)


def _alter(steps: list[str], parts: Mapping[str, sql.Composable]) -> int:
    """Change the set of partitions in one transaction that does not wait long for its locks: the tick goes first."""
    alias = scheduler_settings().database
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute(_SQL["wait_shortly"])
        cursor.execute(_SQL["lock_partitions"])
        if not cursor.fetchone()[0]:
            return 0
        for step in steps:
            cursor.execute(sql.SQL(_SQL[step]).format(**parts))
    logger.info("ledger.partition steps=%s name=%s", ",".join(steps), parts["name"].as_string(None))
    return 1


def _forget(statement: str, days: int) -> int:
    conf = scheduler_settings()
    with connections[conf.database].cursor() as cursor:
        cursor.execute(statement, {"days": days, "limit": conf.writeback_batch})
        return int(cursor.rowcount)
