"""Outcomes written into the ledger, in the dialect of its database. All join the caller's transaction."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connections

from pg_queue.api import Message, NewMessage, as_instant, as_text
from scheduler.domain import RUN_ENDS
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

Outcome = tuple[Message, datetime]
"""A message that has ended, and the occurrence of its run."""
Taken = tuple[NewMessage, datetime]
"""A message that another system has taken, and the occurrence of its run."""
Written = tuple[UUID, str, str, datetime]
"""Of a run that was written: its schedule, its origin, its state, and when it ended."""
Failures = Mapping[UUID, tuple[int, bool]]
"""By schedule: how many of its runs have failed in a row, and whether one before them has not."""


class Writing(ABC):
    """What carrying outcomes over needs of the database."""

    @abstractmethod
    def write(self, outcomes: Sequence[Outcome]) -> list[Written]:
        """Write them into their runs; those that were. What is final stays, but for a failure that was replayed."""

    @abstractmethod
    def note_relayed(self, taken: Sequence[Taken], *, has_outcomes: bool) -> None:
        """These runs have left; where no outcomes will come, that is all that is ever known of them."""

    @abstractmethod
    def hold_counted(self, schedules: Collection[UUID]) -> list[UUID]:
        """Those of the schedules that count their failures, held until the transaction ends."""

    @abstractmethod
    def count_failures(self, failures: Failures) -> None:
        """Bring their failures in a row up to date."""


class PostgresWriting(Writing):
    """By arrays."""

    def __init__(self) -> None:
        self._sql = statements("ledger")

    def write(self, outcomes: Sequence[Outcome]) -> list[Written]:
        """See the contract."""
        instants = [scheduled_for for _, scheduled_for in outcomes]
        messages = [message for message, _ in outcomes]
        columns = {
            "ids": [message.id for message in messages],
            "scheduled_fors": instants,
            "first": min(instants),
            "last": max(instants),
            "states": [RUN_ENDS[message.state].value for message in messages],
            "started_ats": [message.started_at for message in messages],
            "finished_ats": [message.finished_at for message in messages],
            "results": [_json(message.result) for message in messages],
            "errors": [_json(message.error and message.error.as_json()) for message in messages],
        }
        return _ask(self._sql["write_back"], columns)

    def note_relayed(self, taken: Sequence[Taken], *, has_outcomes: bool) -> None:
        """See the contract."""
        instants = [scheduled_for for _, scheduled_for in taken]
        parameters: dict[str, Any] = {
            "ids": [message.id for message, _ in taken],
            "scheduled_fors": instants,
            "first": min(instants),
            "last": max(instants),
            "has_outcomes": has_outcomes,
        }
        with connections[scheduler_settings().database].cursor() as cursor:
            cursor.execute(self._sql["note_relayed"], parameters)

    def hold_counted(self, schedules: Collection[UUID]) -> list[UUID]:
        """See the contract: in one order, because two write-backs may deal with the same ones."""
        return [schedule_id for (schedule_id,) in _ask(self._sql["hold_counted"], {"schedules": list(schedules)})]

    def count_failures(self, failures: Failures) -> None:
        """See the contract."""
        parameters: dict[str, Any] = {
            "ids": list(failures),
            "failures": [count for count, _ in failures.values()],
            "has_successes": [has_success for _, has_success in failures.values()],
        }
        with connections[scheduler_settings().database].cursor() as cursor:
            cursor.execute(self._sql["count_failures"], parameters)


class SqliteWriting(Writing):
    """By JSON arrays of what Django stores there."""

    def __init__(self) -> None:
        self._sql = statements("ledger", "sqlite")

    def write(self, outcomes: Sequence[Outcome]) -> list[Written]:
        """See the contract."""
        rows = [_row(message, scheduled_for) for message, scheduled_for in outcomes]
        written = _ask(self._sql["write_back"], {"outcomes": json.dumps(rows)})
        return [(UUID(schedule), origin, state, as_instant(ended)) for schedule, origin, state, ended in written]

    def note_relayed(self, taken: Sequence[Taken], *, has_outcomes: bool) -> None:
        """See the contract."""
        rows = [[message.id.hex, as_text(scheduled_for)] for message, scheduled_for in taken if message.id is not None]
        parameters: dict[str, Any] = {
            "taken": json.dumps(rows),
            "has_outcomes": has_outcomes,
            "now": as_text(datetime.now(UTC)),
        }
        with connections[scheduler_settings().database].cursor() as cursor:
            cursor.execute(self._sql["note_relayed"], parameters)

    def hold_counted(self, schedules: Collection[UUID]) -> list[UUID]:
        """See the contract."""
        parameters = {"schedules": json.dumps([one.hex for one in schedules])}
        return [UUID(schedule_id) for (schedule_id,) in _ask(self._sql["hold_counted"], parameters)]

    def count_failures(self, failures: Failures) -> None:
        """See the contract."""
        rows = [[schedule_id.hex, *counted] for schedule_id, counted in failures.items()]
        with connections[scheduler_settings().database].cursor() as cursor:
            cursor.execute(self._sql["count_failures"], {"counts": json.dumps(rows)})


def _row(message: Message, scheduled_for: datetime) -> list[Any]:
    return [
        message.id.hex,
        as_text(scheduled_for),
        RUN_ENDS[message.state].value,
        None if message.started_at is None else as_text(message.started_at),
        None if message.finished_at is None else as_text(message.finished_at),
        _json(message.result),
        _json(message.error and message.error.as_json()),
    ]


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _ask(statement: str, parameters: Mapping[str, Any]) -> list[Any]:
    with connections[scheduler_settings().database].cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
