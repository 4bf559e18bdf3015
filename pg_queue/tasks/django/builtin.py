"""The flavour of Django's own `django.tasks`, which is there from Django 6.0 on."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.tasks import TaskContext, TaskResultStatus, signals, task_backends
from django.tasks.base import Task, TaskError, TaskResult
from django.tasks.exceptions import InvalidTask, InvalidTaskBackend, TaskResultDoesNotExist
from django.utils.json import normalize_json

from pg_queue.tasks.django.flavour import Flavour
from pg_queue.tasks.django.results import Counted
from pg_queue.tasks.policy import Errors


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTask(Task):  # type: ignore[type-arg] # generic in its stubs alone
    """What `@task` makes for this backend. The further fields are options of `pg_queue.api.task`; None: not said."""

    max_attempts: int | None = None
    retry_backoff_seconds: float | None = None
    retry_backoff_max_seconds: float | None = None
    backoff: str | None = None
    retry_jitter: float | None = None
    retry_on: Errors | None = None
    never_on: Errors | None = None
    delivery: str | None = None
    time_limit_seconds: float | None = None
    soft_time_limit_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTaskResult(Counted, TaskResult):  # type: ignore[misc, type-arg] # frozen, whatever its stubs say
    """See `Counted`."""

    executions: int = field(default=0, compare=False)


FLAVOUR = Flavour(
    task=Task,
    result=QueueTaskResult,
    error=TaskError,
    context=TaskContext,
    status=TaskResultStatus,
    signals=signals,
    backends=task_backends,
    normalize=normalize_json,
    invalid=InvalidTask,
    unknown_backend=InvalidTaskBackend,
    no_result=TaskResultDoesNotExist,
)
