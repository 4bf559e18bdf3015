"""Between the queue's messages and the API's tasks and results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from pg_queue.domain import DEFAULT_PRIORITY, Failure, Json, Message, MessageState
from pg_queue.tasks.django.flavour import Flavour

HEADER = "django_tasks"
"""The message's header that keeps what the queue has no column for."""

_STATUS = {
    MessageState.WAITING: "READY",
    MessageState.RUNNING: "RUNNING",
    MessageState.SUCCEEDED: "SUCCESSFUL",
    MessageState.FAILED: "FAILED",
    MessageState.CANCELLED: "FAILED",
}
_REASONS = ("message.", "results.", "task.", "worker.")
"""What the queue's own reasons for a failure begin with, where a task's is the path of a class."""
_IDENTITY = {"task", "id", "args", "kwargs", "backend"}
"""The fields of a result that never change."""


class Counted:
    """A result that knows how often it was executed, where the queue knows no more than the last worker's name."""

    __slots__ = ()

    executions: int
    """Begun so far."""

    @property
    def attempts(self) -> int:
        """Executions begun so far."""
        return self.executions

    def refresh(self) -> None:
        """Ask the store again. Raises: the API's TaskResultDoesNotExist."""
        self._take(self.task.get_backend().get_result(self.id))  # type: ignore[attr-defined]

    async def arefresh(self) -> None:
        """See `refresh`."""
        self._take(await self.task.get_backend().aget_result(self.id))  # type: ignore[attr-defined]

    def _take(self, fresh: Any) -> None:
        for one in fields(self):  # type: ignore[arg-type]
            if one.name not in _IDENTITY:
                object.__setattr__(self, one.name, getattr(fresh, one.name))


def queue_priority(priority: int) -> int:
    """The queue's 1 to 10 for the API's -100 to 100: 0 is the queue's default, and what is above or below stays so."""
    step = math.ceil(priority / 20) if priority > 0 else math.floor(priority / 25)
    return DEFAULT_PRIORITY + step


def header_of(backend: str, task: Any, args: list[Json], kwargs: dict[str, Json]) -> dict[str, Json]:
    """What `HEADER` says of a task that is enqueued. Its arguments, too: an outcome keeps a message's headers alone."""
    header: dict[str, Json] = {"backend": backend, "priority": task.priority}
    if task.run_after is not None:
        header["run_after"] = stored_instant(task.run_after).isoformat()
    if args:
        header["args"] = args
    if kwargs:
        header["kwargs"] = kwargs
    return header


def stored_instant(instant: datetime) -> datetime:
    """An instant of the API's as the queue takes it: aware, also where the project has `USE_TZ = False`."""
    return timezone.make_aware(instant) if timezone.is_naive(instant) else instant


def shown_instant(instant: datetime | None) -> datetime | None:
    """An instant of the queue's as the project's settings want it."""
    if instant is None or timezone.is_aware(timezone.now()):
        return instant
    return timezone.make_naive(instant)


def enqueued_task(flavour: Flavour, task: Any, message: Message) -> Any:
    """The task as it was when the message was enqueued: with that priority, queue, backend and instant.

    It was validated then, and is not again: the settings may have changed since, or another than the API enqueued it.
    """
    header = _header(message)
    changes: dict[str, Any] = {"queue_name": message.queue, "run_after": None}
    changes["priority"] = header.get("priority", _api_priority(message.priority))
    if run_after := header.get("run_after"):
        changes["run_after"] = shown_instant(datetime.fromisoformat(run_after).astimezone(UTC))
    if header.get("backend") in flavour.backends.settings:
        changes["backend"] = header["backend"]
    found = object.__new__(type(task))
    for one in fields(task):
        object.__setattr__(found, one.name, changes.get(one.name, getattr(task, one.name)))
    return found


def result_of(flavour: Flavour, task: Any, message: Message, value: Json = None) -> Any:
    """The API's result for a message of this task; `value` is what it returned."""
    as_enqueued, header = enqueued_task(flavour, task, message), _header(message)
    has_failed = message.error is not None and message.state is not MessageState.SUCCEEDED
    begun_at = shown_instant(message.started_at)
    result = flavour.result(
        task=as_enqueued,
        id=str(message.id),
        status=flavour.status[_STATUS[message.state]],
        enqueued_at=shown_instant(message.enqueued_at),
        started_at=begun_at,
        last_attempted_at=begun_at,
        finished_at=shown_instant(message.finished_at),
        args=message.args or header.get("args", []),
        kwargs=message.kwargs or header.get("kwargs", {}),
        backend=as_enqueued.backend,
        errors=[error_of(flavour, message.error)] if has_failed and message.error else [],
        worker_ids=[message.worker] if message.worker else [],
        executions=message.attempts,
    )
    object.__setattr__(result, "_return_value", value)
    return result


def error_of(flavour: Flavour, failure: Failure) -> Any:
    """The API's error for a failure. One that no exception caused has the class `pg_queue.errors.TaskFailed`."""
    path = failure.type
    if path.startswith(_REASONS):
        path = "pg_queue.errors.TaskFailed"
    elif "." not in path:
        path = f"builtins.{path}"
    return flavour.error(
        exception_class_path=path, traceback=failure.traceback or f"{failure.type}: {failure.message}\n"
    )


def _header(message: Message) -> Mapping[str, Json]:
    header = message.headers.get(HEADER)
    return header if isinstance(header, Mapping) else {}


def _api_priority(priority: int) -> int:
    step = priority - DEFAULT_PRIORITY
    return step * (20 if step > 0 else 25)
