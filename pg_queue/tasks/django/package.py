"""The flavour of the package `django-tasks`. The only importer of `django_tasks`, besides the backend for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from django_tasks import TaskContext, TaskResultStatus, signals, task_backends
from django_tasks.base import Task, TaskError, TaskResult
from django_tasks.exceptions import InvalidTaskBackendError, InvalidTaskError, TaskResultDoesNotExist
from django_tasks.utils import normalize_json

from pg_queue.tasks.django.flavour import Flavour
from pg_queue.tasks.django.results import Counted
from pg_queue.tasks.policy import Errors

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTask(Task[P, T]):
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
class QueueTaskResult(Counted, TaskResult[T]):
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
    invalid=InvalidTaskError,
    unknown_backend=InvalidTaskBackendError,
    no_result=TaskResultDoesNotExist,
)
