"""What keeps the executions bounded and truthful: old ones go, and those that nobody runs any more are ended."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F, QuerySet
from django.db.models.functions import Now

from backend.pipelines.domain import ExecutionState
from backend.pipelines.models import PipelineExecution
from pg_queue import api as queue
from scheduler.errors import InvalidInput

BATCH = 1000
_LIVE = {queue.MessageState.WAITING, queue.MessageState.RUNNING}


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


def end_abandoned(organization_id: str | None = None) -> int:
    """End the organization's executions that say `running` while their message is settled or gone; return how many.

    `organization_id` None: every organization's.
    """
    stale = (
        _executions(organization_id)
        .filter(state=ExecutionState.RUNNING, started_at__lt=Now() - timedelta(minutes=1))
        .order_by("started_at")
    )
    ids = list(stale.values_list("pk", flat=True)[:BATCH])
    messages = queue.get_messages(ids)
    abandoned = [pk for pk in ids if pk not in messages or messages[pk].state not in _LIVE]
    return PipelineExecution.objects.filter(pk__in=abandoned, state=ExecutionState.RUNNING).update(
        state=ExecutionState.FAILED, finished_at=Now(), error="its worker vanished", attempt=F("attempt") + 1
    )


def _executions(organization_id: str | None) -> QuerySet[PipelineExecution]:
    rows = PipelineExecution.objects.all()
    return rows if organization_id is None else rows.filter(organization_id=organization_id)
