"""One run of a pipeline: its steps in order, in this process, each step's state written as it changes.

Protocol. The execution's id is the message's id, so a second attempt finds the rows of the first. What is to run is
copied into `StepExecution` rows when the run begins; an edit made meanwhile counts from the next run on. A later
attempt resumes: a step that has succeeded keeps its result and is not run again, the one that failed (or was cut off)
runs anew. Each attempt takes the execution over by writing its number, and every later write names that number: an
attempt whose claim was lost changes nothing any more and stops before its next step. A message that was replayed counts
its attempts from one again; the numbers of its execution go on, so that no attempt has one that another had before.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from backend.pipelines.domain import RUN_TASK, ExecutionState, PipelineGone, StepFailed, StepState, Superseded
from backend.pipelines.messages import is_current
from backend.pipelines.models import Pipeline, PipelineExecution, StepExecution
from pg_queue import api as queue

logger = logging.getLogger(__name__)

PREVIOUS = "previous"
"""Name of the keyword argument that takes the result of the step before."""


def run_pipeline(pipeline_id: str) -> dict[str, Any]:
    """Run every step that has not succeeded yet; return the execution's id, the number of steps and the last result.

    The result of a step is passed to the next as the keyword argument `previous` where its task has a parameter of
    that name. Opens and commits a transaction for each change of state, so that progress is visible while it runs.

    Raises:
        PipelineGone: the message's organization has no such pipeline.
        StepFailed: a step raised; the steps after it were not run.
        Superseded: a later attempt runs this execution.
    """
    message = queue.current_message() or _message_of_nobody(pipeline_id)
    execution = begin(pipeline_id, message)
    result: Any = None
    steps = list(execution.steps.all())
    for step in steps:
        result = step.result if step.state == StepState.SUCCEEDED else _run_step(message, execution, step, result)
    _settle(execution, ExecutionState.SUCCEEDED, result=result)
    return {"execution": str(execution.pk), "steps": len(steps), "result": result}


def stage_of(message_id: uuid.UUID) -> str | None:
    """How far the run of this message is: "step 2 of 5: pipelines.transform"; None: it is no run, or has not begun."""
    steps = list(StepExecution.objects.filter(execution_id=message_id).order_by("position"))
    for number, step in enumerate(steps, start=1):
        if step.state != StepState.SUCCEEDED:
            return f"step {number} of {len(steps)}: {step.task}"
    return f"all {len(steps)} steps" if steps else None


def begin(pipeline_id: str, message: queue.Message) -> PipelineExecution:
    """The execution of `message`, taken over by its current attempt; a new one on the first."""
    with transaction.atomic():
        found = PipelineExecution.objects.select_for_update().filter(pk=message.id).first()
        return _take_over(found, _next_number(found, message)) if found else _create(pipeline_id, message)


def _message_of_nobody(pipeline_id: str) -> queue.Message:
    """Stands for the message where a pipeline is run by hand, outside a worker: for whatever organization has it."""
    now = timezone.now()
    owner = Pipeline.objects.filter(pk=pipeline_id).values_list("organization_id", flat=True).first()
    return queue.Message(
        id=uuid.uuid4(),
        task=RUN_TASK,
        args=[],
        kwargs={},
        queue="default",
        priority=queue.DEFAULT_PRIORITY,
        state=queue.MessageState.RUNNING,
        attempts=1,
        max_attempts=1,
        run_after=now,
        enqueued_at=now,
        started_at=now,
        finished_at=None,
        headers={},
        organization_id=owner or "",
    )


def _create(pipeline_id: str, message: queue.Message) -> PipelineExecution:
    # Whoever may add a schedule may name any id in its arguments: only the organization's own pipelines run.
    pipeline = Pipeline.objects.filter(pk=pipeline_id, organization_id=message.organization_id).first()
    if pipeline is None:
        raise PipelineGone(pipeline_id, message.organization_id)
    execution = PipelineExecution.objects.create(
        id=message.id,
        pipeline=pipeline,
        pipeline_name=pipeline.name,
        organization_id=pipeline.organization_id,
        attempt=message.attempts,
        state=ExecutionState.RUNNING,
    )
    StepExecution.objects.bulk_create(
        StepExecution(execution=execution, position=step.position, task=step.task, args=step.args, kwargs=step.kwargs)
        for step in pipeline.steps.all()
    )
    return execution


def _next_number(execution: PipelineExecution, message: queue.Message) -> int:
    """The number by which this attempt owns the execution. Raises: Superseded where it is not the latest."""
    if message.attempts > execution.attempt:
        return message.attempts
    if is_current(message):
        return execution.attempt + 1
    raise Superseded(execution.pk, message.attempts)


def _take_over(execution: PipelineExecution, attempt: int) -> PipelineExecution:
    execution.attempt, execution.state, execution.error = attempt, ExecutionState.RUNNING, ""
    execution.finished_at = None
    execution.save(update_fields=["attempt", "state", "error", "finished_at"])
    execution.steps.exclude(state=StepState.SUCCEEDED).update(
        state=StepState.NOT_RUN, started_at=None, finished_at=None, error=""
    )
    return execution


def _run_step(message: queue.Message, execution: PipelineExecution, step: StepExecution, previous: Any) -> Any:
    _record(execution, step, state=StepState.RUNNING, started_at=Now())
    try:
        result = _call(message, step, previous)
    except Exception as error:
        # Whatever a task raises is its step's outcome; the worker's retry policy decides what follows.
        text = f"{type(error).__qualname__}: {error}"
        logger.exception(
            "pipelines.step_failed execution=%s position=%s task=%s", execution.pk, step.position, step.task
        )
        _record(execution, step, state=StepState.FAILED, finished_at=Now(), error=text)
        failure = StepFailed(position=step.position, task=step.task, error=text)
        _settle(execution, ExecutionState.FAILED, error=str(failure))
        if isinstance(error, queue.GiveUp | queue.RetryLater):
            raise  # a word to the worker, which it must hear
        raise failure from error
    _record(execution, step, state=StepState.SUCCEEDED, finished_at=Now(), result=result)
    return result


def _call(message: queue.Message, step: StepExecution, previous: Any) -> Any:
    info = queue.get_task(step.task)
    kwargs = dict(step.kwargs)
    if takes_previous(info) and PREVIOUS not in kwargs:
        kwargs[PREVIOUS] = previous
    result = info.run(replace(message, task=step.task, args=step.args, kwargs=kwargs))
    try:
        queue.validate_payload([result], {})
    except queue.InvalidMessage as error:
        raise queue.InvalidMessage(field="result", expected=error.expected, got=error.got) from error
    return result


def takes_previous(info: queue.TaskInfo) -> bool:
    """Whether the task has a parameter named `previous`."""
    return re.search(rf"[(,]\s*{PREVIOUS}\s*[:=,)]", info.signature) is not None


def _record(execution: PipelineExecution, step: StepExecution, **values: Any) -> None:
    """Write a step's change, unless a later attempt owns the execution."""
    _guarded(execution, lambda: StepExecution.objects.filter(pk=step.pk).update(**values))


def _settle(execution: PipelineExecution, state: ExecutionState, *, result: Any = None, error: str = "") -> None:
    _guarded(
        execution,
        lambda: PipelineExecution.objects.filter(pk=execution.pk).update(
            state=state, finished_at=Now(), result=result, error=error
        ),
    )


def _guarded(execution: PipelineExecution, write: Callable[[], int]) -> None:
    with transaction.atomic():
        # The lock keeps the attempt from changing between the look and the write.
        owner = PipelineExecution.objects.select_for_update().filter(pk=execution.pk, attempt=execution.attempt)
        if not owner.exists():
            raise Superseded(execution.pk, execution.attempt)
        write()
