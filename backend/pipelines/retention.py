"""What keeps the executions bounded and truthful: old ones go, and those that nobody runs any more are ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet
from django.db.models.functions import Now

from backend.pipelines.domain import ExecutionState, StepState
from backend.pipelines.messages import find_messages
from backend.pipelines.models import PipelineExecution, StepExecution
from pg_queue import api as queue
from scheduler.errors import InvalidInput

logger = logging.getLogger(__name__)

BATCH = 1000
ABANDONED_SECONDS = 60.0
"""How often it is looked for executions that nobody runs any more."""
MISSING_AFTER = timedelta(hours=1)
"""A younger one that has no message at all may be running by hand, outside a worker."""


def delete_old(keep_days: int, organization_id: str | None = None) -> int:
    """Delete the organization's executions that began more than `keep_days` days ago, in batches; return how many.

    `organization_id` None: every organization's.

    Raises:
        InvalidInput: field `keep_days` when it is not at least 1.
    """
    if isinstance(keep_days, bool) or not isinstance(keep_days, int) or keep_days < 1:
        raise InvalidInput(field="keep_days", expected="a whole number of days, at least 1", got=keep_days)
    old = _executions(organization_id).filter(started_at__lt=Now() - timedelta(days=keep_days))
    deleted = 0
    while batch := list(old.order_by("started_at").values_list("pk", flat=True)[:BATCH]):
        PipelineExecution.objects.filter(pk__in=batch).delete()
        deleted += len(batch)
    return deleted


def retention_duties() -> list[queue.Duty]:
    """The duties of the reaper here. Any number of processes may do them at once."""
    return [queue.Duty(name="end_abandoned", every_seconds=ABANDONED_SECONDS, run=end_abandoned, batch=BATCH)]


def end_abandoned(organization_id: str | None = None) -> int:
    """End the organization's executions that say `running` while their message has ended or is gone; return how many.

    `organization_id` None: every organization's. Each is ended in a transaction of its own, unless it has finished or
    was taken over meanwhile; one that cannot be is logged, and stops no other.
    """
    ended = 0
    for page in _running(organization_id):
        messages, is_complete = find_messages([one.pk for one in page])
        for execution in page:
            message = messages.get(execution.pk)
            if message is None and (not is_complete or execution.is_recent):
                continue
            if message is None or message.state in queue.TERMINAL_STATES:
                ended += _end_quietly(execution, _reason(message))
    return ended


def _running(organization_id: str | None) -> Iterator[list[Any]]:
    """Page by page, so that many that do run hide none behind them; `is_recent`: too young to miss its message."""
    rows = _executions(organization_id).filter(state=ExecutionState.RUNNING).order_by("started_at", "pk")
    is_recent = ExpressionWrapper(Q(started_at__gte=Now() - MISSING_AFTER), output_field=BooleanField())
    page = list(rows.annotate(is_recent=is_recent)[:BATCH])
    while page:
        yield page
        last = page[-1]
        later = Q(started_at__gt=last.started_at) | Q(started_at=last.started_at, pk__gt=last.pk)
        page = list(rows.filter(later).annotate(is_recent=is_recent)[:BATCH])


def _reason(message: queue.Message | None) -> str:
    if message is None:
        return "its message is gone: it was run by hand, or its worker vanished"
    if message.error is not None:
        return f"{message.error.type}: {message.error.message}"
    return f"its message ended without it: {message.state}"


def _end_quietly(execution: PipelineExecution, reason: str) -> bool:
    try:
        return _end(execution, reason)
    except Exception:  # whatever is wrong with this one, the others are ended
        logger.exception("pipelines.not_ended execution=%s", execution.pk)
        return False


def _end(execution: PipelineExecution, reason: str) -> bool:
    """False: it has finished meanwhile, or a later attempt owns it."""
    with transaction.atomic():
        seen = PipelineExecution.objects.filter(
            pk=execution.pk, state=ExecutionState.RUNNING, attempt=execution.attempt
        )
        is_ended = seen.update(state=ExecutionState.FAILED, finished_at=Now(), error=reason, attempt=F("attempt") + 1)
        if is_ended:
            StepExecution.objects.filter(execution=execution, state=StepState.RUNNING).update(
                state=StepState.FAILED, finished_at=Now(), error=reason
            )
    return bool(is_ended)


def _executions(organization_id: str | None) -> QuerySet[PipelineExecution]:
    rows = PipelineExecution.objects.all()
    return rows if organization_id is None else rows.filter(organization_id=organization_id)
