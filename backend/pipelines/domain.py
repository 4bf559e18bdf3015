"""The pipelines' words as types. No I/O."""

from __future__ import annotations

from enum import StrEnum

from pg_queue.api import GiveUp

RUN_TASK = "pipelines.run"
"""The task that every pipeline's schedule fires."""


class ExecutionState(StrEnum):
    """What became of a pipeline's run."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def label(self) -> str:
        """For people."""
        return self.value


class StepState(StrEnum):
    """What became of a step."""

    NOT_RUN = "not_run"
    """Not yet, or never: a step before it failed."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def label(self) -> str:
        """For people."""
        return self.value.replace("_", " ")


class PipelineGone(GiveUp):
    """The organization has no such pipeline (any more). Trying again would not help.

    It was deleted between the enqueue of its run and the run, or it is another organization's: the text does not tell
    which, so that nobody learns whether it exists elsewhere.
    """

    def __init__(self, pipeline_id: object, organization_id: str) -> None:
        expected = f"the id of an existing pipeline of organization {organization_id!r}"
        super().__init__(f"pipeline_id: expected {expected}, got: {str(pipeline_id)!r}")


class StepFailed(Exception):
    """A step raised: the execution has failed, and the steps after it were not run."""

    def __init__(self, *, position: int, task: str, error: str) -> None:
        super().__init__(f"step {position} ({task}) failed: {error}")


class Superseded(Exception):
    """A later attempt has taken this execution over: this one stops and changes nothing."""

    def __init__(self, execution_id: object, attempt: int) -> None:
        super().__init__(f"execution {execution_id}: attempt {attempt} was taken over by a later one")
