"""Runs as people see them: the ledger's rows, with what the queue knows of those that are not finished there yet.

A run's end is written into the ledger in batches, a little after it happened; until then its message tells.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from pg_queue import api as queue
from scheduler.domain import RUN_ENDS, Firer, RunOrigin, RunState
from scheduler.models import ScheduleRun

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One run, or one stretch of occurrences that were not fired, at this instant."""

    id: UUID
    schedule_id: UUID
    organization_id: str
    scheduled_for: datetime
    """The occurrence; for a stretch, its first; for a manual run, when it was started."""
    span_end: datetime | None
    """A stretch's last occurrence; None for a single one."""
    occurrences: int | None
    """How many occurrences it stands for; None: not known."""
    origin: RunOrigin
    firer: Firer
    state: RunState
    fired_at: datetime | None
    relayed_at: datetime | None
    """When the store, or the Celery broker, had taken it that its queue is routed to."""
    started_at: datetime | None
    """When its last execution began."""
    finished_at: datetime | None
    result: Any
    error: Any
    """An object with `type`, `message` and `traceback`; also of a run that is being tried again. None: no error."""


def runs_with_live_state(runs: Iterable[ScheduleRun]) -> list[RunView]:
    """The runs in the same order; those not finished in the ledger with the queue's state, by one query for all.

    A failed run may have been replayed from the dead letters: its message tells, too.
    """
    views = [_view(run) for run in runs]
    messages = messages_of([view.id for view in views if _is_open(view)])
    return [_merge(view, messages.get(view.id)) for view in views]


def messages_of(run_ids: Collection[UUID]) -> dict[UUID, queue.Message]:
    """What is known of these runs' messages: in the queue, on their way out of it, or in a store that it is routed to.

    Another store that does not answer is logged, and tells nothing.
    """
    found = queue.get_messages(run_ids)
    if not queue.has_routes():
        return found
    outgoing = queue.get_outgoing([one for one in run_ids if one not in found])  # first: it leaves for a store
    for alias in queue.queue_settings().routing.stores:
        missing = [one for one in run_ids if one not in found]
        try:
            found |= queue.get_messages(missing, using=alias) if missing else {}
        except Exception:  # a store's own errors are many; the ledger has what was known before
            logger.exception("runs.store_not_asked store=%s", alias)
    return {**outgoing, **found}


def _is_open(view: RunView) -> bool:
    return view.state in (RunState.FIRED, RunState.RUNNING, RunState.FAILED)


def _view(run: ScheduleRun) -> RunView:
    return RunView(
        id=run.id,
        schedule_id=run.schedule_id,
        organization_id=run.organization_id,
        scheduled_for=run.scheduled_for,
        span_end=run.span_end,
        occurrences=run.occurrences,
        origin=RunOrigin(run.origin),
        firer=Firer(run.firer),
        state=RunState(run.state),
        fired_at=run.fired_at,
        relayed_at=run.relayed_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        result=run.result,
        error=run.error,
    )


def _merge(view: RunView, message: queue.Message | None) -> RunView:
    if message is None or not _is_open(view):
        return view
    error = message.error.as_json() if message.error is not None else None
    if message.state is queue.MessageState.WAITING:
        return replace(view, state=RunState.FIRED, started_at=message.started_at, finished_at=None, error=error)
    if message.state is queue.MessageState.RUNNING:
        return replace(view, state=RunState.RUNNING, started_at=message.started_at, finished_at=None, error=error)
    return replace(
        view,
        state=RUN_ENDS[message.state],
        started_at=message.started_at,
        finished_at=message.finished_at,
        result=message.result,
        error=error,
    )
