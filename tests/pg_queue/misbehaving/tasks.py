"""Tasks that do what tasks must not do, each on purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celery import shared_task

from pg_queue.api import GiveUp, RetryLater, current_message, task


@task("test.add")
def add(left: int, right: int) -> int:
    """Return the sum."""
    return left + right


@task("test.raise", max_attempts=2, retry_backoff_seconds=0)
def fail(text: str = "no") -> None:
    """Raise."""
    raise ValueError(text)


@task("test.give_up")
def give_up() -> None:
    """Ask never to be run again."""
    raise GiveUp("hopeless")


@task("test.retry_later")
def retry_later() -> str:
    """Succeed at the second attempt."""
    message = current_message()
    assert message is not None
    if message.attempts == 1:
        raise RetryLater("not yet", delay_seconds=0.1)
    return f"attempt {message.attempts}"


@task("test.exit", max_attempts=1)
def leave(code: int = 3) -> None:
    """End the process."""
    os._exit(code)


@task("test.sys_exit", max_attempts=1)
def sys_leave() -> None:
    """Raise SystemExit."""
    sys.exit(5)


@task("test.crash", max_attempts=1)
def crash() -> None:
    """Die of a segmentation fault."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


@task("test.hang", max_attempts=1, time_limit_seconds=0.5)
def hang() -> None:
    """Never return, and leave a grandchild that does not either."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    threading.Event().wait()


@task("test.returns", max_attempts=5)
def returns(what: str) -> Any:
    """Return what JSON cannot hold, or what is too large."""
    return {
        "datetime": datetime.now(UTC),
        "set": {1, 2},
        "nan": float("nan"),
        "nul": "a\x00b",
        "surrogate": "\ud800",
        "large": "x" * 300_000,
        "huge_number": 10**4000,
        "tuple": (1, {"a": (2,)}),
    }[what]


@task("test.hold")
def hold(folder: str, seconds: float = 60) -> str:
    """Say in `folder` that this attempt has begun, and end when a file `go` is there."""
    message = current_message()
    assert message is not None
    place, deadline = Path(folder), time.monotonic() + seconds
    (place / f"begun-{message.attempts}").write_text(str(os.getpid()))
    while not (place / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return f"attempt {message.attempts}"


@shared_task(name="test.celery", bind=True)
def celery_task(self: Any, value: str) -> dict[str, Any]:
    """Return what a Celery task sees of its request."""
    request = self.request
    return {
        "value": value,
        "id": request.id,
        "retries": request.retries,
        "queue": request.delivery_info["routing_key"],
        "called_directly": request.called_directly,
    }


@shared_task(name="test.celery_retry", bind=True, max_retries=4)
def celery_retry(self: Any) -> int:
    """Retry once, as Celery tasks do."""
    if self.request.retries == 0:
        raise self.retry(countdown=0.1, exc=RuntimeError("first"))
    return int(self.request.retries)
