"""Celery tasks as a project has them, which note what they see."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from celery import Task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

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


@shared_task(name="native.limited", soft_time_limit=0.05)
def limited() -> str:
    """The same, by its own limit."""
    return str(tidies())


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
