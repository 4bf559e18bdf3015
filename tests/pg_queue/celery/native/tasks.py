"""Celery tasks as a project has them, which note what they see."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import Task, chord, group, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.result import AsyncResult
from django.db import transaction

from pg_queue.api import GiveUp

seen: list[Any] = []
"""What tasks, hooks and receivers noted, in this process."""


@shared_task(name="native.add")
def add(left: int, right: int) -> int:
    """Return the sum."""
    return left + right


@shared_task(name="native.sees", bind=True)
def sees(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what a task sees of its request."""
    request = self.request
    return {
        "args": list(args),
        "kwargs": kwargs,
        "id": request.id,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "retries": request.retries,
        "headers": request.headers,
        "queue": request.delivery_info["routing_key"],
        "redelivered": request.delivery_info["redelivered"],
        "called_directly": request.called_directly,
        "hostname": request.hostname,
    }


@shared_task(name="native.fails", bind=True)
def fails(self: Any, text: str = "no") -> None:
    """Raise."""
    seen.append(("ran", self.request.retries))
    raise ValueError(text)


@shared_task(name="native.retries", bind=True, max_retries=2)
def retries(self: Any, times: int, **options: Any) -> int:
    """Ask for a retry so many times."""
    seen.append(("ran", self.request.retries))
    if self.request.retries < times:
        raise self.retry(exc=KeyError("not yet"), **{"countdown": 0, **options})
    return int(self.request.retries)


@shared_task(name="native.retries_at", bind=True)
def retries_at(self: Any, eta: str) -> None:
    """Ask for a retry at an instant."""
    raise self.retry(eta=datetime.fromisoformat(eta))


@shared_task(name="native.retries_on", bind=True)
def retries_on(self: Any) -> str:
    """Ask for a retry, and go on all the same."""
    if self.request.retries == 0:
        self.retry(throw=False, countdown=1)
    return "went on"


@shared_task(
    name="native.autoretries",
    bind=True,
    autoretry_for=(OSError,),
    dont_autoretry_for=(FileNotFoundError,),
    retry_backoff=4,
    retry_backoff_max=6,
    retry_jitter=False,
    retry_kwargs={"max_retries": 3},
)
def autoretries(self: Any, kind: str = "ConnectionError") -> None:
    """Raise one that Celery tries again, or not."""
    raise {"ConnectionError": ConnectionError, "FileNotFoundError": FileNotFoundError}[kind](kind)


@shared_task(name="native.ignored")
def ignored() -> None:
    """Have nothing recorded."""
    raise Ignore


@shared_task(name="native.rejected")
def rejected(requeue: bool = False) -> None:
    """Reject its message."""
    raise Reject("not mine", requeue=requeue)


@shared_task(name="native.gives_up")
def gives_up() -> None:
    """Give up in Downbeat's way."""
    raise GiveUp("hopeless")


@shared_task(name="native.forgets", ignore_result=True)
def forgets() -> str:
    """Return what nobody keeps."""
    return "lost"


@shared_task(name="native.replaces", bind=True)
def replaces(self: Any, value: int) -> None:
    """Be replaced."""
    raise self.replace(add.s(value, 1))


@shared_task(name="native.sends")
def sends() -> str:
    """Send another."""
    return str(add.delay(1, 2).id)


@shared_task(name="native.leaves_open")
def leaves_open() -> None:
    """Return inside a transaction."""
    transaction.atomic().__enter__()


@shared_task(name="native.total")
def total(values: list[int]) -> int:
    """Return the sum."""
    return sum(values)


@shared_task(name="native.note")
def note(*values: Any) -> None:
    """Note what it is called with: a callback's own arguments come last."""
    seen.append(tuple(reversed(values)))


@shared_task(name="native.note_error")
def note_error(task_id: str) -> None:
    """Note whose error it was called for."""
    seen.append(("error", task_id))


@shared_task(name="native.retries_in_transaction", bind=True)
def retries_in_transaction(self: Any) -> str:
    """Ask for a retry in a transaction, which that rolls back."""
    with transaction.atomic():
        if self.request.retries == 0:
            raise self.retry(countdown=0)
    return "second"


@shared_task(name="native.replaced_by_group", bind=True)
def replaced_by_group(self: Any) -> None:
    """Be replaced by a group."""
    raise self.replace(group(add.s(1, 1), add.s(2, 2)))


@shared_task(name="native.reports", bind=True, track_started=True)
def reports(self: Any) -> list[Any]:
    """Return what others see of its states."""
    states = [self.AsyncResult(self.request.id).state]
    self.update_state(state="PROGRESS", meta={"done": 1})
    result = self.AsyncResult(self.request.id)
    return [*states, result.state, result.info]


@shared_task(name="native.sends_chord")
def sends_chord() -> None:
    """Send a chord."""
    chord([add.s(1, 1)], total.s()).delay()


@shared_task(name="native.asks")
def asks(task_id: str = "") -> str:
    """Return another task's state."""
    result = AsyncResult(task_id or str(uuid4()))
    return str(result.state if task_id else result.get(timeout=1))


@shared_task(name="native.exits")
def exits() -> None:
    """Raise what ends a process."""
    raise SystemExit(3)


@shared_task(name="native.returns_instant")
def returns_instant() -> datetime:
    """Return what Celery's JSON knows, and JSON does not."""
    return datetime(2026, 1, 1, tzinfo=UTC)


@shared_task(name="native.tidies")
def tidies() -> str:
    """Work until it is told to end."""
    try:
        threading.Event().wait(20)
    except SoftTimeLimitExceeded:
        return "tidied"
    return "never"


@shared_task(name="native.limited", soft_time_limit=1)
def limited() -> str:
    """The same, by its own limit."""
    return str(tidies())


@shared_task(name="native.ends", acks_late=False)
def ends() -> None:
    """End the process, at once."""
    os._exit(3)


@shared_task(name="native.ends_once", bind=True, acks_late=True, reject_on_worker_lost=True)
def ends_once(self: Any) -> str:
    """The same, and live the second time."""
    if not self.request.delivery_info["redelivered"]:
        os._exit(3)
    return "lived"


@shared_task(name="native.hangs")
def hangs() -> None:
    """Never return."""
    threading.Event().wait()


@shared_task(name="native.overruns", time_limit=0.5)
def overruns() -> None:
    """Never return, by its own limit."""
    threading.Event().wait()


def _hold(task: Any, folder: str) -> str:
    name = f"{task.request.id}-{int(task.request.delivery_info['redelivered'])}"
    Path(folder, name).touch()
    while not Path(folder, "go").exists():
        time.sleep(0.01)
    return name[-1]


@shared_task(name="native.holds", bind=True)
def holds(self: Any, folder: str) -> str:
    """Say in `folder` that it has begun, and end when a file `go` is there."""
    return _hold(self, folder)


@shared_task(name="native.holds_late", bind=True, acks_late=True)
def holds_late(self: Any, folder: str) -> str:
    """The same, acknowledged late."""
    return _hold(self, folder)


class Hooked(Task):  # type: ignore[type-arg]
    """A Task class that has everything of its own."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Note."""
        seen.append("before_start")

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Note."""
        seen.append(("on_success", retval))

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Note."""
        seen.append(("on_failure", type(exc).__name__))

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Note."""
        seen.append(("on_retry", type(exc).__name__))

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Note."""
        seen.append(("after_return", status))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Note, and run it."""
        seen.append("__call__")
        return super().__call__(*args, **kwargs)


@shared_task(name="native.hooked", base=Hooked)
def hooked(fail: bool = False) -> str:
    """Succeed, or not."""
    if fail:
        raise ValueError("no")
    return "done"
