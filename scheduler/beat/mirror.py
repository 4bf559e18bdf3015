"""The mirror: our row of a schedule that Beat fires, written best effort beside Beat's own.

Beat's row is the primary one (invariant 7). A failure here is logged with the schedule's id, counted, kept as a
`MirrorFailure`, and never raised. It does not undo Beat's row, whether the caller has a transaction of its own or not:

- it happens in a savepoint of the transaction that wrote Beat's row, so that both are seen together, and two changes
  of one schedule are mirrored in the order in which they hold Beat's row;
- waiting is bounded, for locks and for each statement;
- what the table would check only at commit is checked inside the savepoint;
- under SERIALIZABLE the savepoint could still doom the commit, so there the mirror is written after it.

What remains is a connection that breaks: then the caller's transaction is gone with Beat's row in it, and the caller
hears of it. The next change that is mirrored marks the failures before it as repaired: it begins with what was to be
written (`intended`) and what Beat's row says since (`scheduler.ownership`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.core import serializers
from django.db import connections, transaction
from django.db.models.functions import Now
from prometheus_client import Counter
from psycopg import sql

from pg_queue.api import METRICS
from scheduler.dialect import is_sqlite
from scheduler.models import MirrorFailure, PgPeriodicSchedule, ScheduleChange, ScheduleRun
from scheduler.models.ledger import keep
from scheduler.settings import scheduler_settings
from scheduler.statements import statements

EVENT_MIRROR_FAILED = "mirror.failed"
EVENT_FAILURE_LOST = "mirror.failure_not_recorded"
EVENT_STRETCH_LOST = "mirror.stretch_not_recorded"
Beside = Sequence[ScheduleRun | ScheduleChange]
"""Rows to keep with a mirror's change: the occurrences that it leaves out, and the note of who changed what."""
WAIT_SECONDS = 2
"""How long a mirror write waits for a lock; a statement of it may take twice as long."""

PATHS = ("create", "update", "pause", "resume", "delete", "follow")
FAILURES = Counter(
    "downbeat_mirror_failures", "Writes of a mirror row that failed beside a Beat row.", ["path"], registry=METRICS
)
for _path in PATHS:
    FAILURES.labels(path=_path)  # there from the start, at 0: the first failure is an increase too

Read = TypeVar("Read")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Which schedule a write is about, known also where its mirror row is not."""

    schedule_id: UUID
    beat_name: str
    path: str
    """One of `PATHS`."""


def write(subject: Subject, row: PgPeriodicSchedule, beside: Beside = (), seen: Exception | None = None) -> None:
    """Write the mirror row whole, new or not, with what is to be kept of the change beside it. Never raises.

    `seen` is the error with which the mirror could not even be read: it is recorded and nothing is tried. A row whose
    organization is not known (rebuilt from Beat's) is not written: a failure says so. What is beside it is kept also
    where the mirror row cannot be: nothing would find it again.
    """
    _attempt(subject, row, lambda: _write(row, beside), seen, beside)


def erase(subject: Subject, beside: Beside = (), seen: Exception | None = None) -> None:
    """Delete the mirror row. Never raises. `beside` and `seen` as in `write`."""
    _attempt(subject, None, lambda: _erase(subject.schedule_id, beside), seen, beside)


def follow(subject: Subject, action: Callable[[], None]) -> None:
    """Do `action`, which brings the mirror into line with Beat's row that was written elsewhere. Never raises."""
    try:
        _attempt(subject, None, action, None, ())
    except Exception as error:  # noqa: BLE001  best effort, as in `_try`: not even the isolation could be asked
        record(subject, None, error)


def note_unfollowed(beat_name: str, error: Exception) -> None:
    """Log and count that it could not even be asked which schedule mirrors Beat's row. Never raises."""
    FAILURES.labels(path="follow").inc()
    _logger.error("%s beat_name=%r path=follow error=%s", EVENT_MIRROR_FAILED, beat_name, error, exc_info=error)


def read(query: Callable[[], Read | None]) -> tuple[Read | None, Exception | None]:
    """What `query` answers, or the error that kept it from answering within the bounds; in a savepoint of its own."""
    try:
        with bounded():
            return query(), None
    except Exception as error:  # noqa: BLE001  the mirror may be locked, renamed or gone: Beat's row decides then
        return None, error


def record(subject: Subject, row: PgPeriodicSchedule | None, error: Exception) -> None:
    """Log, count and keep a failure; `row` is the mirror row as it should be, None: gone. Never raises."""
    FAILURES.labels(path=subject.path).inc()
    details = (EVENT_MIRROR_FAILED, subject.schedule_id, subject.path, error)
    _logger.error("%s schedule_id=%s path=%s error=%s", *details, exc_info=error)
    try:
        with bounded():
            _keep(subject, row, error)
    except Exception:  # the failure of a failure: the log has both
        _logger.exception("%s schedule_id=%s path=%s", EVENT_FAILURE_LOST, subject.schedule_id, subject.path)


def intended(schedule_id: UUID) -> PgPeriodicSchedule | None:
    """The mirror row that was to be written last and was not; None: no failure remembers one."""
    failures = MirrorFailure.objects.using(_alias()).of_schedule(schedule_id).unrepaired()
    kept = failures.exclude(path="follow").values_list("intended", flat=True).first()
    if not kept:
        return None
    restored = next(iter(serializers.deserialize("python", [kept]))).object
    if not isinstance(restored, PgPeriodicSchedule):
        return None
    restored._state.adding = False  # else saving it would insert, also where a stale row is there to update
    return restored


def _attempt(
    subject: Subject,
    row: PgPeriodicSchedule | None,
    action: Callable[[], None],
    seen: Exception | None,
    beside: Beside,
) -> None:
    if seen is not None:
        record(subject, row, seen)
        _keep_beside(subject, beside)
    elif _is_serializable():
        transaction.on_commit(lambda: _try(subject, row, action, beside), using=_alias(), robust=True)
    else:
        _try(subject, row, action, beside)


def _try(subject: Subject, row: PgPeriodicSchedule | None, action: Callable[[], None], beside: Beside) -> None:
    try:
        with bounded():
            action()
            _check_deferred()
    except Exception as error:  # noqa: BLE001  best effort: nothing that happens here may reach Beat's write
        record(subject, row, error)
        _keep_beside(subject, beside)


def _write(row: PgPeriodicSchedule, beside: Beside) -> None:
    if not row.organization_id:
        raise LookupError("the mirror row is missing, and its organization is not known")
    row.save(using=_alias())
    keep(beside, using=_alias())
    mark_repaired(row.pipeline_id)


def _keep_beside(subject: Subject, beside: Beside) -> None:
    try:
        with bounded():
            keep(beside, using=_alias())
    except Exception:
        _logger.exception("%s schedule_id=%s path=%s", EVENT_STRETCH_LOST, subject.schedule_id, subject.path)


def _erase(schedule_id: UUID, beside: Beside) -> None:
    PgPeriodicSchedule.objects.using(_alias()).filter(pk=schedule_id).delete()
    keep(beside, using=_alias())
    mark_repaired(schedule_id)


def mark_repaired(schedule_id: UUID) -> None:
    """The mirror is as it should be: its failures are repaired. Joins the caller's transaction."""
    MirrorFailure.objects.using(_alias()).of_schedule(schedule_id).unrepaired().update(repaired_at=Now())


def _keep(subject: Subject, row: PgPeriodicSchedule | None, error: Exception) -> None:
    kept = row if row is not None and row.organization_id else None
    MirrorFailure.objects.using(_alias()).create(
        schedule_id=subject.schedule_id,
        beat_name=subject.beat_name,
        path=subject.path,
        error=f"{type(error).__name__}: {error}",
        intended=None if kept is None else json.loads(serializers.serialize("json", [kept]))[0],
    )


@contextmanager
def bounded() -> Iterator[None]:
    """A savepoint (or transaction) whose statements neither wait nor run for long; the caller's bounds return after."""
    with transaction.atomic(using=_alias()):
        if is_sqlite():  # it waits for one lock, which the transaction has from its beginning
            yield
            return
        before = _set_bounds(f"{WAIT_SECONDS}s", f"{2 * WAIT_SECONDS}s")
        yield
        _set_bounds(*before)


def _set_bounds(lock_timeout: str, statement_timeout: str) -> tuple[str, str]:
    parameters = {"lock_timeout": lock_timeout, "statement_timeout": statement_timeout}
    held = _query(statements("schedules")["set_bounds"], parameters)[0]
    return held[0], held[1]


def _check_deferred() -> None:
    relation = PgPeriodicSchedule._meta.db_table
    found = _query(statements("schedules")["deferrable_constraints"], {"relation": relation})
    if found:
        names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in found)
        with connections[_alias()].cursor() as cursor:
            cursor.execute(sql.SQL(statements("schedules")["check_constraints"]).format(names=names))


def _is_serializable() -> bool:
    return bool(_query(statements("schedules")["is_serializable"], {})[0][0])


def _query(statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connections[_alias()].cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def _alias() -> str:
    return scheduler_settings().database
